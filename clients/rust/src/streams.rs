//! Watching and following, which go on after a break.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use async_stream::stream;
use tokio::time::{Instant, sleep};
use tokio_stream::{Stream, StreamExt};
use tonic::{Status, Streaming};

use crate::api::jobs::v1::{FollowOffset, FollowRequest, FollowResponse, JobReport, WatchRequest, WatchResponse};
use crate::client::Client;
use crate::errors::is_interrupted;
use crate::job::is_final;

const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

impl Client {
    /// A job's report now and after each change; ends with the one that is final. After a break the present report comes once more. An
    /// error is the last item. Dropping the stream ends the call.
    pub fn watch(&self, job_id: &str) -> impl Stream<Item = Result<JobReport, Status>> + Send + use<> {
        resumed(self.patience, Watching { client: self.clone(), job_id: job_id.into(), is_over: false })
    }

    /// Waits until a job is over; its last report.
    pub async fn until_final(&self, job_id: &str) -> Result<JobReport, Status> {
        let mut reports = std::pin::pin!(self.watch(job_id));
        let mut last = JobReport::default();
        while let Some(report) = reports.next().await {
            last = report?;
        }
        Ok(last)
    }

    /// What a job writes, byte for byte: from the beginning or the request's offsets, and with `follow` to the end of the output, over
    /// broken connections and restarts of the server. No byte is lost and none comes twice; `DATA_LOSS` is the error if the server leaves
    /// some out. An error is the last item. Dropping the stream ends the call.
    ///
    /// To go on in another process, keep `offset + data.len()` of the last piece of each rank and stream, and put them into `offsets`.
    pub fn follow(&self, request: FollowRequest) -> impl Stream<Item = Result<FollowResponse, Status>> + Send + use<> {
        let places = request.offsets.iter().map(|known| ((known.rank, known.stream), known.offset)).collect();
        resumed(self.patience, Following { client: self.clone(), request, places })
    }
}

/// A call that can be made again from where it was.
trait Source: Send {
    type Answer: Send;
    type Item: Send;

    fn open(&self) -> impl Future<Output = Result<Streaming<Self::Answer>, Status>> + Send;
    /// What is new in an answer; `None` = nothing.
    fn take(&mut self, answer: Self::Answer) -> Result<Option<Self::Item>, Status>;
    /// What it means that the server ended the stream; `Ok` = everything came.
    fn ended(&self) -> Result<(), Status>;
}

/// Patience begins at the first break after the server was there, however long the stream was quiet until then.
fn resumed<S: Source>(patience: Duration, mut source: S) -> impl Stream<Item = Result<S::Item, Status>> + Send {
    stream! {
        let (mut wait, mut away_since) = (FIRST_WAIT, None);
        loop {
            let error = match source.open().await {
                Err(error) => error,
                Ok(mut answers) => {
                    // It is open, whether or not there is something to tell.
                    (wait, away_since) = (FIRST_WAIT, None);
                    loop {
                        match answers.message().await {
                            Ok(None) => match source.ended() {
                                Ok(()) => return,
                                Err(error) => break error,
                            },
                            Err(error) => break error,
                            Ok(Some(answer)) => match source.take(answer) {
                                Ok(None) => (),
                                Ok(Some(item)) => yield Ok(item),
                                Err(error) => break error,
                            },
                        }
                    }
                }
            };
            let since: Instant = *away_since.get_or_insert_with(Instant::now);
            if !is_interrupted(&error) || since.elapsed() > patience {
                yield Err(error);
                return;
            }
            sleep(wait).await;
            wait = LONGEST_WAIT.min(2 * wait);
        }
    }
}

struct Watching {
    client: Client,
    job_id: String,
    is_over: bool,
}

impl Source for Watching {
    type Answer = WatchResponse;
    type Item = JobReport;

    async fn open(&self) -> Result<Streaming<WatchResponse>, Status> {
        let request = WatchRequest { job_id: self.job_id.clone() };
        Ok(self.client.jobs().watch(request).await?.into_inner())
    }

    fn take(&mut self, answer: WatchResponse) -> Result<Option<JobReport>, Status> {
        self.is_over = answer.job.as_ref().is_some_and(|job| is_final(job.state()));
        Ok(answer.job)
    }

    fn ended(&self) -> Result<(), Status> {
        match self.is_over {
            true => Ok(()),
            false => Err(Status::unavailable("the server stopped telling about the job before it was over")),
        }
    }
}

struct Following {
    client: Client,
    request: FollowRequest,
    /// How far each stream of each rank was read.
    places: HashMap<(i32, i32), i64>,
}

impl Source for Following {
    type Answer = FollowResponse;
    type Item = FollowResponse;

    async fn open(&self) -> Result<Streaming<FollowResponse>, Status> {
        let offsets = self.places.iter().map(|(&(rank, stream), &offset)| FollowOffset { rank, stream, offset });
        let request = FollowRequest { offsets: offsets.collect(), ..self.request.clone() };
        Ok(self.client.jobs().follow(request).await?.into_inner())
    }

    fn take(&mut self, mut piece: FollowResponse) -> Result<Option<FollowResponse>, Status> {
        let begins = if self.request.tail_bytes > 0 { piece.offset } else { 0 };
        let place = self.places.entry((piece.rank, piece.stream)).or_insert(begins);
        let Ok(known) = usize::try_from(*place - piece.offset) else {
            let words = format!("bytes {place} to {} of the output of rank {} did not come", piece.offset, piece.rank);
            return Err(Status::data_loss(words));
        };
        if known >= piece.data.len() {
            return Ok(None);
        }
        *place = piece.offset + piece.data.len() as i64;
        piece.offset += known as i64;
        piece.data.drain(..known);
        Ok(Some(piece))
    }

    fn ended(&self) -> Result<(), Status> {
        Ok(())
    }
}
