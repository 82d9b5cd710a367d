//! Client for Serai, a UCloud compute provider: it starts jobs, watches them and follows what they write.
//!
//! A [`Client`] holds one connection and makes the generated stubs of every service of Serai. Each call carries the client's token, and a
//! deadline when it has none of its own. [`Client::watch`] and [`Client::follow`] go on where they were when a connection breaks or the
//! server is started anew.
//!
//! ```no_run
//! use serai_client::{Client, api::jobs::v1::{FollowRequest, SubmitRequest}};
//! use tokio_stream::StreamExt;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder("https://serai.example.org").token(std::env::var("SERAI_TOKEN")?).connect()?;
//! let request = SubmitRequest { owner: "alice".into(), command: vec!["echo".into(), "Hello".into()], ..Default::default() };
//! let job_id = client.jobs().submit(request).await?.into_inner().job_id;
//! let mut output = std::pin::pin!(client.follow(FollowRequest { job_id, follow: true, ..Default::default() }));
//! while let Some(piece) = output.next().await {
//!     print!("{}", String::from_utf8_lossy(&piece?.data));
//! }
//! # Ok(())
//! # }
//! ```

mod address;
pub mod api;
mod client;
mod errors;
mod job;
mod streams;

pub use client::{Builder, Client, ConnectError, Credentials, Service};
pub use errors::{code_name, explain, reason};
pub use job::{exit_code, is_final};
