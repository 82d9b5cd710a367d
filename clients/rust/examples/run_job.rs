//! Runs a program as a job of Serai: submits it, tells its states, writes what it writes, and ends with its exit code.
//!
//!     SERAI_ADDRESS=https://serai.example.org SERAI_TOKEN=serai_… cargo run --example run_job -- sh -c 'echo Hello'
//!
//! Its own words come on stderr and begin with "serai: ". 125 = the job could not be submitted or followed.

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::pin::pin;

use serai_client::api::jobs::v1::{FollowRequest, JobReport, OutputStream, SubmitRequest};
use serai_client::{Client, exit_code, explain};
use tokio_stream::StreamExt;
use tonic::Status;

type Failure = Box<dyn Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let command: Vec<String> = env::args().skip(1).collect();
    if command.is_empty() {
        eprintln!("usage: run_job PROGRAM [ARGUMENT...]");
        std::process::exit(125);
    }
    let code = run(command).await.unwrap_or_else(|error| {
        let words = error.downcast_ref::<Status>().map_or_else(|| error.to_string(), explain);
        eprintln!("serai: {words}");
        125
    });
    std::process::exit(code);
}

async fn run(command: Vec<String>) -> Result<i32, Failure> {
    let of_environment = |name| env::var(name).unwrap_or_default();
    let mut builder = Client::builder(of_environment("SERAI_ADDRESS")).token(of_environment("SERAI_TOKEN"));
    if let Ok(file) = env::var("SERAI_CA") {
        builder = builder.ca_certificate(std::fs::read(file)?);
    }
    if let (Ok(certificate), Ok(key)) = (env::var("SERAI_CERTIFICATE"), env::var("SERAI_KEY")) {
        builder = builder.identity(std::fs::read(certificate)?, std::fs::read(key)?);
    }
    let client = builder.connect()?;

    let request = SubmitRequest {
        owner: "tools".into(),
        project: of_environment("SERAI_PROJECT"),
        image: of_environment("SERAI_IMAGE"),
        command,
        ..Default::default()
    };
    let job_id = client.jobs().submit(request).await?.into_inner().job_id;
    eprintln!("serai: job {job_id} submitted");

    let (last, ()) = tokio::try_join!(print_states(&client, &job_id), print_logs(&client, &job_id))?;
    let code = exit_code(&last);
    eprintln!("serai: job {job_id} ended: exit code {code}");
    Ok(code)
}

async fn print_states(client: &Client, id: &str) -> Result<JobReport, Failure> {
    let mut reports = pin!(client.watch(id));
    let mut last: Option<JobReport> = None;
    while let Some(report) = reports.try_next().await? {
        if last.as_ref().map(|last| last.state) != Some(report.state) {
            eprintln!("serai: job {id} is {}", report.state().as_str_name().trim_start_matches("JOB_STATE_"));
        }
        last = Some(report);
    }
    last.ok_or_else(|| "the server said nothing of the job".into())
}

async fn print_logs(client: &Client, id: &str) -> Result<(), Failure> {
    let mut output = pin!(client.follow(FollowRequest { job_id: id.into(), follow: true, ..Default::default() }));
    while let Some(piece) = output.try_next().await? {
        if piece.stream() == OutputStream::Stderr {
            io::stderr().write_all(&piece.data)?;
        } else {
            io::stdout().write_all(&piece.data)?;
            io::stdout().flush()?;
        }
    }
    Ok(())
}
