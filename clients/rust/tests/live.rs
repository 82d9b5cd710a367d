//! Against the server that SERAI_ADDRESS names; says so and does nothing where it names none.

use std::collections::HashMap;
use std::env;
use std::pin::pin;

use serai_client::api::jobs::v1::{FollowRequest, SubmitRequest};
use serai_client::{Client, exit_code, reason};
use tokio_stream::StreamExt;

#[tokio::test]
async fn a_job_from_its_submission_to_its_last_byte() {
    let Ok(address) = env::var("SERAI_ADDRESS") else {
        eprintln!("skipped: SERAI_ADDRESS names no server");
        return;
    };
    let mut builder = Client::builder(address).token(env::var("SERAI_TOKEN").unwrap_or_default());
    if let Ok(file) = env::var("SERAI_CA") {
        builder = builder.ca_certificate(std::fs::read(file).unwrap());
    }
    let client = builder.connect().unwrap();
    let request = SubmitRequest {
        owner: "tools".into(),
        command: ["sh", "-c", "echo \"$K\""].map(String::from).into(),
        environment: HashMap::from([("K".into(), "a  b".into())]),
        submission_id: format!("{:016x}", getrandom::u64().unwrap()),
        ..Default::default()
    };
    let job_id = client.jobs().submit(request.clone()).await.unwrap().into_inner().job_id;
    let again = client.jobs().submit(request.clone()).await.unwrap().into_inner();
    assert_eq!(again.job_id, job_id, "a repetition is the same job");
    assert_eq!(exit_code(&client.until_final(&job_id).await.unwrap()), 0);

    let mut output = pin!(client.follow(FollowRequest { job_id: job_id.clone(), follow: true, ..Default::default() }));
    let mut log = Vec::new();
    while let Some(piece) = output.try_next().await.unwrap() {
        log.extend(piece.data);
    }
    assert_eq!(log, b"a  b\n");

    let other = SubmitRequest { command: vec!["true".into()], ..request };
    assert_eq!(reason(&client.jobs().submit(other).await.unwrap_err()).as_deref(), Some("JOB_CONFLICT"));
    assert_eq!(reason(&client.until_final("no-such-job").await.unwrap_err()).as_deref(), Some("JOB_UNKNOWN"));
}
