//! A job of one program, and how it ended.

use std::collections::HashMap;
use std::time::Duration;

use crate::api::core::v1::{NameAndVersion, ProductReference, ResourceOwner, SimpleDuration};
use crate::api::jobs::v1::invocation_parameter::Parameter;
use crate::api::jobs::v1::{
    Application, ApplicationInvocation, ApplicationMetadata, ApplicationType, InvocationParameter, Job, JobReport, JobSpecification,
    JobState, JobStatus, Tool, ToolBackend, ToolDescription, ToolReference, WordInvocation,
};

/// What one must know of a job that runs one program. [`JobSpec::job`] makes the message of it, in which anything else can be set.
#[derive(Clone, Debug, Default)]
pub struct JobSpec {
    /// 1 to 64 letters, digits, `-` and `_`; empty = a new one by chance.
    pub id: String,
    /// The username in whose drive the output is kept.
    pub owner: String,
    /// Of the owner; empty = their personal workspace. Must be the token's project where the token has one.
    pub project: String,
    /// The machine type; `retrieve_products` lists those that there are.
    pub product: ProductReference,
    /// Of the container, where jobs run in containers; empty = none.
    pub image: String,
    /// The program and its arguments, each unchanged.
    pub command: Vec<String>,
    /// Of the program, beside what Serai sets.
    pub environment: HashMap<String, String>,
    /// For people; empty = none.
    pub name: String,
    /// That run the command at the same time; `None` = 1.
    pub replicas: Option<i32>,
    /// Of RUNNING, in whole seconds, rounded up; `None` = no limit.
    pub time_limit: Option<Duration>,
}

impl JobSpec {
    /// The message that `JobsService.Create` takes.
    pub fn job(self) -> Job {
        let what = NameAndVersion { name: "tool".into(), version: "1".into() };
        let application = self.application(&what);
        Job {
            id: if self.id.is_empty() { new_id() } else { self.id },
            owner: Some(ResourceOwner { created_by: self.owner, project: unless_empty(self.project) }),
            specification: Some(JobSpecification {
                application: Some(what),
                product: Some(self.product),
                name: unless_empty(self.name),
                replicas: self.replicas,
                time_allocation: self.time_limit.map(whole_seconds),
                ..Default::default()
            }),
            status: Some(JobStatus { state: JobState::InQueue.into(), resolved_application: Some(application), ..Default::default() }),
            ..Default::default()
        }
    }

    fn application(&self, what: &NameAndVersion) -> Application {
        let tool = ToolDescription {
            info: Some(what.clone()),
            backend: ToolBackend::Docker.into(),
            image: unless_empty(self.image.clone()),
            ..Default::default()
        };
        Application {
            metadata: Some(ApplicationMetadata {
                name: what.name.clone(),
                version: what.version.clone(),
                title: "Tool".into(),
                ..Default::default()
            }),
            invocation: Some(ApplicationInvocation {
                tool: Some(ToolReference {
                    name: what.name.clone(),
                    version: what.version.clone(),
                    tool: Some(Tool { description: Some(tool), ..Default::default() }),
                }),
                invocation: self.command.iter().map(|argument| word(argument)).collect(),
                environment: self.environment.iter().map(|(name, value)| (name.clone(), word(value))).collect(),
                application_type: ApplicationType::Batch.into(),
                allow_multi_node: self.replicas.is_some_and(|replicas| replicas > 1),
                ..Default::default()
            }),
        }
    }
}

fn word(text: &str) -> InvocationParameter {
    InvocationParameter { parameter: Some(Parameter::Word(WordInvocation { word: text.to_owned() })) }
}

fn unless_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn whole_seconds(limit: Duration) -> SimpleDuration {
    let seconds = limit.as_secs() + u64::from(limit.subsec_nanos() > 0);
    SimpleDuration {
        hours: i32::try_from(seconds / 3600).unwrap_or(i32::MAX),
        minutes: (seconds / 60 % 60) as i32,
        seconds: (seconds % 60) as i32,
    }
}

fn new_id() -> String {
    let random = getrandom::u64().expect("the system gives random numbers");
    format!("tool-{random:016x}")
}

/// Whether a job in this state is over.
pub fn is_final(state: JobState) -> bool {
    matches!(state, JobState::Success | JobState::Failure | JobState::Expired)
}

/// Of a job that is over, as a shell would tell it: that of the first replica which did not end with 0, 128 and the signal for one that a
/// signal ended, 1 for a job that is no SUCCESS for another reason, else 0.
pub fn exit_code(report: &JobReport) -> i32 {
    let of_replicas = report.replica_reports.iter().map(|replica| match replica.signal {
        Some(signal) => 128 + signal,
        None => replica.exit_code.unwrap_or(0),
    });
    let otherwise = i32::from(report.state() != JobState::Success);
    of_replicas.into_iter().find(|code| *code != 0).unwrap_or(otherwise)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::jobs::v1::ReplicaReport;

    #[test]
    fn a_job_says_what_was_asked_for() {
        let spec = JobSpec {
            owner: "alice".into(),
            command: vec!["echo".into(), "a b".into()],
            environment: HashMap::from([("K".into(), "v".into())]),
            replicas: Some(2),
            time_limit: Some(Duration::from_millis(3_661_001)),
            ..JobSpec::default()
        };
        let job = spec.job();
        let asked = job.specification.unwrap();
        let app = job.status.unwrap().resolved_application.unwrap().invocation.unwrap();
        assert_eq!(asked.time_allocation, Some(SimpleDuration { hours: 1, minutes: 1, seconds: 2 }));
        assert_eq!((asked.name, asked.replicas, app.allow_multi_node), (None, Some(2), true));
        assert_eq!(app.invocation, vec![word("echo"), word("a b")]);
        assert_eq!(app.environment["K"], word("v"));
        assert_eq!((job.owner.unwrap().project, job.id.len()), (None, 21));
    }

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        let replica = |exit_code, signal| ReplicaReport { exit_code, signal, ..Default::default() };
        for (state, replicas, want) in [
            (JobState::Success, vec![replica(Some(0), None); 2], 0),
            (JobState::Success, vec![replica(Some(0), None), replica(Some(3), None), replica(Some(4), None)], 3),
            (JobState::Success, vec![replica(None, Some(9))], 137),
            (JobState::Expired, vec![replica(Some(0), None)], 1),
            (JobState::Failure, vec![], 1),
        ] {
            assert_eq!(exit_code(&JobReport { state: state.into(), replica_reports: replicas, ..Default::default() }), want);
        }
    }
}
