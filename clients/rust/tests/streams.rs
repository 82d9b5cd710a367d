//! Watching and following over a server that breaks off.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use serai_client::api::jobs::v1::{
    FollowOffset, FollowRequest, FollowResponse, GetRequest, GetResponse, JobReport, JobState, OutputStream, WatchRequest, WatchResponse,
};
use serai_client::{Builder, Client, explain, reason};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_stream::{Stream, StreamExt, iter};
use tonic::codegen::{BoxFuture, Service, http};
use tonic::metadata::MetadataMap;
use tonic::server::{Grpc, NamedService, ServerStreamingService, UnaryService};
use tonic::{Code, Request, Response, Status, body::Body};
use tonic_prost::ProstCodec;
use tonic_types::{ErrorDetails, StatusExt};

/// A server with one job, whose log it sends two bytes at a time, and that breaks off whenever `breaks` says so.
#[derive(Clone, Default)]
struct Flaky {
    log: &'static str,
    /// One for each call of a stream; none = to the end, OK = as if that were the end.
    breaks: Vec<Status>,
    /// Bytes that it goes back behind the offset that was asked for; below 0 = it leaves some out.
    back: i64,
    /// Streams that break are open for so long and tell nothing; zero = they tell the beginning.
    quiet: Duration,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Default)]
struct Heard {
    streams: usize,
    metadata: MetadataMap,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Flaky {
    /// `whole`, or its beginning and then the break.
    fn broken_off<T: Send + 'static>(&self, whole: Vec<T>, before: usize) -> Response<Answers<T>> {
        let mut heard = self.heard.lock().unwrap();
        heard.streams += 1;
        let end = self.breaks.get(heard.streams - 1).cloned();
        if let (Some(end), false) = (&end, self.quiet.is_zero()) {
            let (quiet, end) = (self.quiet, end.clone());
            return Response::new(Box::pin(async_stream::stream! {
                tokio::time::sleep(quiet).await;
                yield Err(end);
            }));
        }
        let most = if end.is_some() { before } else { usize::MAX };
        let end = end.filter(|status| status.code() != Code::Ok);
        let answers = whole.into_iter().take(most).map(Ok).chain(end.map(Err));
        Response::new(Box::pin(iter(answers.collect::<Vec<_>>())))
    }

    fn streams(&self) -> usize {
        self.heard.lock().unwrap().streams
    }
}

impl UnaryService<GetRequest> for Flaky {
    type Response = GetResponse;
    type Future = BoxFuture<Response<GetResponse>, Status>;

    fn call(&mut self, request: Request<GetRequest>) -> Self::Future {
        self.heard.lock().unwrap().metadata = request.metadata().clone();
        Box::pin(async { Ok(Response::new(GetResponse::default())) })
    }
}

impl ServerStreamingService<WatchRequest> for Flaky {
    type Response = WatchResponse;
    type ResponseStream = Answers<WatchResponse>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, _: Request<WatchRequest>) -> Self::Future {
        let report = |state: JobState| WatchResponse { job: Some(JobReport { state: state.into(), ..Default::default() }) };
        let answer = self.broken_off(vec![report(JobState::InQueue), report(JobState::Success)], 1);
        Box::pin(async { Ok(answer) })
    }
}

impl ServerStreamingService<FollowRequest> for Flaky {
    type Response = FollowResponse;
    type ResponseStream = Answers<FollowResponse>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<FollowRequest>) -> Self::Future {
        let begin = |known: &FollowOffset| usize::try_from(known.offset - self.back).unwrap_or(0);
        let from = request.into_inner().offsets.first().map_or(0, begin);
        let pieces = self.log.as_bytes()[from..].chunks(2).enumerate().map(|(i, data)| FollowResponse {
            stream: OutputStream::Stdout.into(),
            offset: (from + 2 * i) as i64,
            data: data.into(),
            ..Default::default()
        });
        let answer = self.broken_off(pieces.collect(), 3);
        Box::pin(async { Ok(answer) })
    }
}

impl NamedService for Flaky {
    const NAME: &'static str = "serai.jobs.v1.JobsService";
}

impl Service<http::Request<Body>> for Flaky {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let me = self.clone();
        Box::pin(async move {
            Ok(match request.uri().path().rsplit('/').next() {
                Some("Get") => Grpc::new(ProstCodec::default()).unary(me, request).await,
                Some("Watch") => Grpc::new(ProstCodec::<_, WatchRequest>::default()).server_streaming(me, request).await,
                _ => Grpc::new(ProstCodec::<_, FollowRequest>::default()).server_streaming(me, request).await,
            })
        })
    }
}

/// Serves on a socket of its own until the test ends.
fn serve(fake: &Flaky, options: impl FnOnce(Builder) -> Builder) -> Client {
    let path = std::env::temp_dir().join(format!("serai-client-{:016x}", getrandom::u64().unwrap()));
    let listener = UnixListener::bind(&path).unwrap();
    let serving = tonic::transport::Server::builder().add_service(fake.clone()).serve_with_incoming(UnixListenerStream::new(listener));
    tokio::spawn(serving);
    options(Client::builder(format!("unix:{}", path.display()))).connect().unwrap()
}

async fn collect(client: &Client, offsets: Vec<FollowOffset>) -> Result<String, Status> {
    let request = FollowRequest { job_id: "1".into(), follow: true, offsets, ..Default::default() };
    let mut output = pin!(client.follow(request));
    let mut whole = Vec::new();
    while let Some(piece) = output.try_next().await? {
        whole.extend(piece.data);
    }
    Ok(String::from_utf8(whole).unwrap())
}

fn of_serai(code: Code, reason: &str) -> Status {
    Status::with_error_details(code, "in words", ErrorDetails::with_error_info(reason, "serai", HashMap::new()))
}

/// Output is whole and nothing comes twice, however the stream breaks, also when a server begins a little before what was asked for.
#[tokio::test]
async fn follow_goes_on_where_it_was() {
    for back in [0, 1, 3] {
        let breaks = vec![Status::unavailable("away"), Status::internal("reset"), Status::unknown("h2")];
        let fake = Flaky { log: "a log of some length", breaks, back, ..Default::default() };
        let client = serve(&fake, |options| options);
        assert_eq!(collect(&client, vec![]).await.unwrap(), fake.log);
        assert_eq!(fake.streams(), 4);
    }
}

/// However long a stream had nothing to tell, it is opened again after a break, and after the next one.
#[tokio::test]
async fn quiet_streams_do_not_use_up_patience() {
    let breaks = vec![Status::unavailable("away"), Status::cancelled("reset")];
    let fake = Flaky { log: "a log", breaks, quiet: Duration::from_millis(300), ..Default::default() };
    let client = serve(&fake, |options| options.patience(Duration::from_millis(100)));
    assert_eq!(collect(&client, vec![]).await.unwrap(), fake.log);
    assert_eq!(fake.streams(), 3);
    fake.heard.lock().unwrap().streams = 0;
    assert_eq!(client.until_final("1").await.unwrap().state(), JobState::Success);
    assert_eq!(fake.streams(), 3);
}

/// Nobody takes what is there for the whole.
#[tokio::test]
async fn output_that_is_left_out_is_an_error() {
    let fake = Flaky { log: "a log of some length", breaks: vec![Status::unavailable("away")], back: -2, ..Default::default() };
    let error = collect(&serve(&fake, |options| options), vec![]).await.unwrap_err();
    assert_eq!(explain(&error), "DATA_LOSS: bytes 6 to 8 of the output of rank 0 did not come");
    assert_eq!(fake.streams(), 2);
}

/// Whoever kept the offset goes on from there.
#[tokio::test]
async fn follow_begins_at_offsets() {
    let fake = Flaky { log: "a log of some length", ..Default::default() };
    let known = FollowOffset { rank: 0, stream: OutputStream::Stdout.into(), offset: 9 };
    assert_eq!(collect(&serve(&fake, |options| options), vec![known]).await.unwrap(), "some length");
}

/// An error that Serai sent is an answer and not a break.
#[tokio::test]
async fn errors_of_serai_end_streams() {
    for (code, word) in [(Code::NotFound, "JOB_UNKNOWN"), (Code::Internal, "UNSPECIFIED")] {
        let fake = Flaky { log: "abc", breaks: vec![of_serai(code, word)], ..Default::default() };
        let error = collect(&serve(&fake, |options| options), vec![]).await.unwrap_err();
        assert_eq!((reason(&error).as_deref(), fake.streams()), (Some(word), 1));
    }
}

/// A server that stays away is told as what it is when patience is over.
#[tokio::test]
async fn patience_ends() {
    let client = Client::builder("unix:/nowhere/at/all").patience(Duration::ZERO).connect().unwrap();
    assert_eq!(client.until_final("1").await.unwrap_err().code(), Code::Unavailable);
}

/// The last report is the final one, whatever broke before it, also when the server ends the stream as if it had told everything.
#[tokio::test]
async fn watch_ends_with_the_final_report() {
    let fake = Flaky { breaks: vec![Status::unavailable("away"), Status::ok("")], ..Default::default() };
    let last = serve(&fake, |options| options).until_final("1").await.unwrap();
    assert_eq!((last.state(), fake.streams()), (JobState::Success, 3));
}

/// Each call carries the token, and a deadline when it has none of its own.
#[tokio::test]
async fn calls_carry_the_token_and_a_deadline() {
    let fake = Flaky::default();
    let client = serve(&fake, |options| options.token("serai_1_secret").call_timeout(Duration::from_secs(7)));
    let told = |name: &str| fake.heard.lock().unwrap().metadata.get(name).map(|value| value.to_str().unwrap().to_owned());

    client.jobs().get(GetRequest::default()).await.unwrap();
    assert_eq!(told("authorization").as_deref(), Some("Bearer serai_1_secret"));
    assert_eq!(told("grpc-timeout").as_deref(), Some("7000000u"));

    let mut own = Request::new(GetRequest::default());
    own.set_timeout(Duration::from_secs(1));
    client.jobs().get(own).await.unwrap();
    assert_eq!(told("grpc-timeout").as_deref(), Some("1000000u"));
}
