package serai_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	serai "example.org/serai/clients/go"
	jobsv1 "example.org/serai/clients/go/api/serai/jobs/v1"
)

// A server with one job, whose log it sends two bytes at a time, and that breaks off whenever `breaks` says so.
type flaky struct {
	jobsv1.UnimplementedJobsServiceServer
	log    string
	breaks []error       // one for each call of a stream, nil = to the end
	back   int64         // bytes that it goes back behind the offset that was asked for; below 0: it leaves some out
	quiet  time.Duration // streams that break are open for so long and tell nothing; 0 = they tell the beginning
	calls  int
	heard  metadata.MD
	until  time.Time // the last call's deadline
}

func (f *flaky) next() error {
	f.calls++
	if f.calls > len(f.breaks) {
		return nil
	}
	return f.breaks[f.calls-1]
}

func (f *flaky) Get(ctx context.Context, _ *jobsv1.GetRequest) (*jobsv1.GetResponse, error) {
	f.heard, _ = metadata.FromIncomingContext(ctx)
	f.until, _ = ctx.Deadline()
	return &jobsv1.GetResponse{}, nil
}

func (f *flaky) Watch(_ *jobsv1.WatchRequest, stream grpc.ServerStreamingServer[jobsv1.WatchResponse]) error {
	broken := f.next()
	states := []jobsv1.JobState{jobsv1.JobState_JOB_STATE_IN_QUEUE, jobsv1.JobState_JOB_STATE_SUCCESS}
	if broken != nil {
		if f.quiet > 0 {
			return f.open(stream, broken)
		}
		states = states[:1]
	}
	for _, state := range states {
		if err := stream.Send(&jobsv1.WatchResponse{Job: &jobsv1.JobReport{State: state}}); err != nil {
			return err
		}
	}
	if broken == endedEarly {
		return nil
	}
	return broken
}

// open as the server does it with a stream that has nothing to tell.
func (f *flaky) open(stream grpc.ServerStream, broken error) error {
	if err := stream.SendHeader(metadata.Pairs("serai-stream", "open")); err != nil {
		return err
	}
	time.Sleep(f.quiet)
	return broken
}

func (f *flaky) Follow(request *jobsv1.FollowRequest, stream grpc.ServerStreamingServer[jobsv1.FollowResponse]) error {
	broken, at, sent := f.next(), int64(0), 0
	for _, offset := range request.Offsets {
		at = max(offset.Offset-f.back, 0)
	}
	if broken != nil && f.quiet > 0 {
		return f.open(stream, broken)
	}
	for ; at < int64(len(f.log)); at += 2 {
		if broken != nil && sent == 3 {
			return broken
		}
		piece := f.log[at:min(at+2, int64(len(f.log)))]
		answer := &jobsv1.FollowResponse{Stream: jobsv1.OutputStream_OUTPUT_STREAM_STDOUT, Offset: at, Data: []byte(piece)}
		if err := stream.Send(answer); err != nil {
			return err
		}
		sent++
	}
	return broken
}

func serve(t *testing.T, jobs *flaky, options serai.Options) *serai.Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	jobsv1.RegisterJobsServiceServer(server, jobs)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	client, err := serai.Connect("unix:"+socket, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func fromSerai(code codes.Code, reason string) error {
	told, _ := status.New(code, "in words").WithDetails(&errdetails.ErrorInfo{Domain: "serai", Reason: reason})
	return told.Err()
}

var (
	away       = status.Error(codes.Unavailable, "away")
	reset      = status.Error(codes.Internal, "stream terminated by RST_STREAM")
	dropped    = status.Error(codes.Canceled, "stream terminated by RST_STREAM with error code: CANCEL")
	endedEarly = errors.New("ended well before everything was told")
)

func collect(client *serai.Client, from ...*jobsv1.FollowOffset) (string, error) {
	var whole bytes.Buffer
	for piece, err := range client.Follow(context.Background(), &jobsv1.FollowRequest{JobId: "1", Follow: true, Offsets: from}) {
		if err != nil {
			return whole.String(), err
		}
		whole.Write(piece.Data)
	}
	return whole.String(), nil
}

// Output is whole and nothing comes twice, however the stream breaks, also when a server begins a little before what was asked for.
func TestFollowGoesOnWhereItWas(t *testing.T) {
	for _, back := range []int64{0, 1, 3} {
		jobs := &flaky{log: "a log of some length", breaks: []error{away, reset, dropped}, back: back}
		got, err := collect(serve(t, jobs, serai.Options{}))
		if err != nil || got != jobs.log || jobs.calls != 4 {
			t.Errorf("back %d: %q after %d calls, %v", back, got, jobs.calls, err)
		}
	}
}

// However long a stream had nothing to tell, it is opened again after a break, and after the next one.
func TestQuietStreamsDoNotUseUpPatience(t *testing.T) {
	options := serai.Options{Patience: 100 * time.Millisecond}
	jobs := &flaky{log: "a log", breaks: []error{away, dropped}, quiet: 300 * time.Millisecond}
	if got, err := collect(serve(t, jobs, options)); err != nil || got != jobs.log || jobs.calls != 3 {
		t.Errorf("%q after %d calls, %v", got, jobs.calls, err)
	}
	jobs = &flaky{breaks: []error{away, reset}, quiet: 300 * time.Millisecond}
	last, err := serve(t, jobs, options).UntilFinal(context.Background(), "1")
	if err != nil || !serai.Final(last.GetState()) || jobs.calls != 3 {
		t.Errorf("%v after %d calls, %v", last, jobs.calls, err)
	}
}

// Nobody takes what is there for the whole.
func TestOutputThatIsLeftOutIsAnError(t *testing.T) {
	jobs := &flaky{log: "a log of some length", breaks: []error{away}, back: -2}
	_, err := collect(serve(t, jobs, serai.Options{}))
	if want := "DATA_LOSS: bytes 6 to 8 of the output of rank 0 did not come"; err == nil || serai.Explain(err) != want || jobs.calls != 2 {
		t.Errorf("%v after %d calls", err, jobs.calls)
	}
}

// Closing the client ends a wait; the server is not looked for again.
func TestClosedWhileWaiting(t *testing.T) {
	jobs := &flaky{breaks: []error{away}, quiet: time.Millisecond}
	client := serve(t, jobs, serai.Options{})
	time.AfterFunc(100*time.Millisecond, func() { _ = client.Close() })
	if _, err := client.UntilFinal(context.Background(), "1"); status.Code(err) != codes.Canceled || jobs.calls != 1 {
		t.Errorf("%v after %d calls", err, jobs.calls)
	}
}

// Whoever kept the offset goes on from there.
func TestFollowBeginsAtOffsets(t *testing.T) {
	client := serve(t, &flaky{log: "a log of some length"}, serai.Options{})
	got, err := collect(client, &jobsv1.FollowOffset{Stream: jobsv1.OutputStream_OUTPUT_STREAM_STDOUT, Offset: 9})
	if err != nil || got != "some length" {
		t.Errorf("%q, %v", got, err)
	}
}

// An error that Serai sent is an answer and not a break.
func TestErrorsOfSeraiEndStreams(t *testing.T) {
	for code, reason := range map[codes.Code]string{codes.NotFound: "JOB_UNKNOWN", codes.Internal: "UNSPECIFIED"} {
		jobs := &flaky{log: "abc", breaks: []error{fromSerai(code, reason)}}
		_, err := collect(serve(t, jobs, serai.Options{}))
		if serai.Reason(err) != reason || jobs.calls != 1 {
			t.Errorf("%v after %d calls", err, jobs.calls)
		}
	}
}

// A server that stays away is told as what it is when patience is over.
func TestPatienceEnds(t *testing.T) {
	socket := "unix:" + filepath.Join(t.TempDir(), "nobody")
	client, err := serai.Connect(socket, serai.Options{Patience: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := collect(client); status.Code(err) != codes.Unavailable {
		t.Errorf("%v", err)
	}
}

// Cancelling the context ends a wait at once.
func TestCancelledWhileWaiting(t *testing.T) {
	client, err := serai.Connect("unix:"+filepath.Join(t.TempDir(), "nobody"), serai.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err = client.UntilFinal(ctx, "1"); err == nil {
		t.Error("no error")
	}
}

// The last report is the final one, whatever broke before it, also when the server ends the stream as if it had told everything.
func TestWatchEndsWithTheFinalReport(t *testing.T) {
	jobs := &flaky{breaks: []error{away, endedEarly}}
	last, err := serve(t, jobs, serai.Options{}).UntilFinal(context.Background(), "1")
	if err != nil || !serai.Final(last.GetState()) || jobs.calls != 3 {
		t.Errorf("%v after %d calls, %v", last, jobs.calls, err)
	}
}

// Leaving a loop ends the call at the server, and is no error.
func TestLeavingALoop(t *testing.T) {
	client := serve(t, &flaky{log: strings.Repeat("x", 100)}, serai.Options{})
	for _, err := range client.Follow(context.Background(), &jobsv1.FollowRequest{}) {
		if err != nil {
			t.Error(err)
		}
		break
	}
}

// Each call carries the token, and ends by itself when its context has no deadline.
func TestTokenAndDeadline(t *testing.T) {
	jobs := &flaky{}
	client := serve(t, jobs, serai.Options{Token: "serai_1_secret", CallTimeout: time.Hour})
	if _, err := client.Jobs.Get(context.Background(), &jobsv1.GetRequest{}); err != nil {
		t.Fatal(err)
	}
	if got := jobs.heard.Get("authorization"); len(got) != 1 || got[0] != "Bearer serai_1_secret" {
		t.Errorf("%v", got)
	}
	if left := time.Until(jobs.until); left < 50*time.Minute || left > time.Hour {
		t.Errorf("%v left", left)
	}
}

func TestConnectRefuses(t *testing.T) {
	for address, options := range map[string]serai.Options{
		"":                          {},
		"serai.example.org:443":     {},
		"ftp://serai.example.org":   {},
		"https://host/path":         {},
		"http://serai.example.org":  {Token: "serai_1_secret"},
		"http://192.0.2.1":          {Token: "serai_1_secret"},
		"http://localhost":          {CAFile: "ca.pem"},
		"https://serai.example.org": {CAFile: "/nowhere/ca.pem"},
	} {
		if client, err := serai.Connect(address, options); err == nil {
			t.Errorf("%q was taken", address)
			_ = client.Close()
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: a secret in %v", address, err)
		}
	}
}

func TestConnectTakes(t *testing.T) {
	for _, address := range []string{"https://h", "https://h:1/", "http://localhost:1", "http://127.0.0.1", "http://[::1]:5", "unix:/a/b", "unix:///a/b"} {
		client, err := serai.Connect(address, serai.Options{Token: "serai_1_secret"})
		if err != nil {
			t.Errorf("%q: %v", address, err)
			continue
		}
		_ = client.Close()
	}
}

func TestExitCode(t *testing.T) {
	replica := func(code, signal int32) *jobsv1.ReplicaReport {
		made := &jobsv1.ReplicaReport{}
		if signal != 0 {
			made.Signal = &signal
		} else {
			made.ExitCode = &code
		}
		return made
	}
	success, expired := jobsv1.JobState_JOB_STATE_SUCCESS, jobsv1.JobState_JOB_STATE_EXPIRED
	for i, c := range []struct {
		state    jobsv1.JobState
		replicas []*jobsv1.ReplicaReport
		want     int
	}{
		{success, []*jobsv1.ReplicaReport{replica(0, 0), replica(0, 0)}, 0},
		{success, []*jobsv1.ReplicaReport{replica(0, 0), replica(3, 0), replica(4, 0)}, 3},
		{success, []*jobsv1.ReplicaReport{replica(0, 9)}, 137},
		{expired, []*jobsv1.ReplicaReport{replica(0, 0)}, 1},
		{expired, nil, 1},
	} {
		if got := serai.ExitCode(&jobsv1.JobReport{State: c.state, ReplicaReports: c.replicas}); got != c.want {
			t.Errorf("%d: %d, not %d", i, got, c.want)
		}
	}
}

func TestExplain(t *testing.T) {
	for err, want := range map[error]string{
		status.Error(codes.NotFound, "no\nsuch job"): "NOT_FOUND: no such job",
		status.Error(codes.OutOfRange, "x"):          "OUT_OF_RANGE: x",
		fmt.Errorf("plain"):                          "plain",
	} {
		if got := serai.Explain(err); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}

// Against the server that the environment names; skipped where it names none.
func TestLive(t *testing.T) {
	address := os.Getenv("SERAI_ADDRESS")
	if address == "" {
		t.Skip("SERAI_ADDRESS names no server")
	}
	client, err := serai.Connect(address, serai.Options{Token: os.Getenv("SERAI_TOKEN"), CAFile: os.Getenv("SERAI_CA")})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx := t.Context()
	request := &jobsv1.SubmitRequest{
		Owner: "tools", Command: []string{"sh", "-c", `echo "$K"`}, Environment: map[string]string{"K": "a  b"}, SubmissionId: submissionID(t),
	}
	job, err := client.Jobs.Submit(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := client.Jobs.Submit(ctx, request); err != nil || again.JobId != job.JobId {
		t.Errorf("a repetition is the same job: %v, %v", again, err)
	}
	last, err := client.UntilFinal(ctx, job.JobId)
	if err != nil || serai.ExitCode(last) != 0 {
		t.Errorf("%v, %v", last, err)
	}
	var log bytes.Buffer
	for piece, err := range client.Follow(ctx, &jobsv1.FollowRequest{JobId: job.JobId, Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		log.Write(piece.Data)
	}
	if log.String() != "a  b\n" {
		t.Errorf("%q", log.String())
	}
	request.Command = []string{"true"}
	if _, err := client.Jobs.Submit(ctx, request); serai.Reason(err) != "JOB_CONFLICT" || status.Code(err) != codes.AlreadyExists {
		t.Errorf("%v", err)
	}
	if _, err := client.UntilFinal(ctx, "no-such-job"); serai.Reason(err) != "JOB_UNKNOWN" {
		t.Errorf("%v", err)
	}
}

// submissionID is one that nobody else has.
func submissionID(t *testing.T) string {
	random := make([]byte, 8)
	_, _ = rand.Read(random) // never fails
	return t.Name() + hex.EncodeToString(random)
}
