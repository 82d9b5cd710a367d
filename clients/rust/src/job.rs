//! How a job stands, and how it ended.

use crate::api::jobs::v1::{JobReport, JobState};

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
