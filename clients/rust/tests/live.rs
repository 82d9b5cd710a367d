//! Against the server that SERAI_ADDRESS names; says so and does nothing where it names none.

use std::collections::HashMap;
use std::env;
use std::pin::pin;

use serai_client::api::jobs::v1::{FollowRequest, RetrieveProductsRequest};
use serai_client::{Client, JobSpec, exit_code, reason};
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
    let offered = client.jobs().retrieve_products(RetrieveProductsRequest {}).await.unwrap().into_inner().responses;
    let spec = JobSpec {
        owner: "tools".into(),
        product: offered[0].product.clone().unwrap(),
        command: ["sh", "-c", "echo \"$K\""].map(String::from).into(),
        environment: HashMap::from([("K".into(), "a  b".into())]),
        ..JobSpec::default()
    };
    let job = spec.clone().job();
    client.submit(&job).await.unwrap();
    client.submit(&job).await.expect("a repetition is the same job");
    assert_eq!(exit_code(&client.until_final(&job.id).await.unwrap()), 0);

    let mut output = pin!(client.follow(FollowRequest { job_id: job.id.clone(), follow: true, ..Default::default() }));
    let mut log = Vec::new();
    while let Some(piece) = output.try_next().await.unwrap() {
        log.extend(piece.data);
    }
    assert_eq!(log, b"a  b\n");

    let other = JobSpec { id: job.id, command: vec!["true".into()], ..spec }.job();
    assert_eq!(reason(&client.submit(&other).await.unwrap_err()).as_deref(), Some("JOB_CONFLICT"));
    assert_eq!(reason(&client.until_final("no-such-job").await.unwrap_err()).as_deref(), Some("JOB_UNKNOWN"));
}
