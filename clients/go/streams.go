package serai

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	jobsv1 "example.org/serai/clients/go/api/serai/jobs/v1"
)

// Watch yields a job's report now and after each change, and ends with the one that is final. After a break the present report comes
// once more. An error is the last thing that is yielded.
func (c *Client) Watch(ctx context.Context, jobID string) iter.Seq2[*jobsv1.JobReport, error] {
	return func(yield func(*jobsv1.JobReport, error) bool) {
		open := func(ctx context.Context) (grpc.ServerStreamingClient[jobsv1.WatchResponse], error) {
			return c.Jobs.Watch(ctx, &jobsv1.WatchRequest{JobId: jobID})
		}
		err := read(ctx, c.patience, open, func(answer *jobsv1.WatchResponse) bool { return yield(answer.Job, nil) })
		if err != nil {
			yield(nil, err)
		}
	}
}

// UntilFinal waits until a job is over and returns its last report.
func (c *Client) UntilFinal(ctx context.Context, jobID string) (*jobsv1.JobReport, error) {
	var last *jobsv1.JobReport
	for report, err := range c.Watch(ctx, jobID) {
		if err != nil {
			return last, err
		}
		last = report
	}
	return last, nil
}

// Follow yields what a job writes, byte for byte: from the beginning or the request's offsets, and with request.Follow to the end of the
// output, over broken connections and restarts of the server. No byte is lost and none comes twice. An error is the last thing that is
// yielded.
//
// To go on in another process, keep Offset + len(Data) of the last piece of each rank and stream, and put them into request.Offsets.
func (c *Client) Follow(ctx context.Context, request *jobsv1.FollowRequest) iter.Seq2[*jobsv1.FollowResponse, error] {
	return func(yield func(*jobsv1.FollowResponse, error) bool) {
		places := newPlaces(request.Offsets)
		open := func(ctx context.Context) (grpc.ServerStreamingClient[jobsv1.FollowResponse], error) {
			again := proto.CloneOf(request)
			again.Offsets = places.offsets()
			return c.Jobs.Follow(ctx, again)
		}
		err := read(ctx, c.patience, open, func(piece *jobsv1.FollowResponse) bool {
			fresh := places.newOf(piece)
			return fresh == nil || yield(fresh, nil)
		})
		if err != nil {
			yield(nil, err)
		}
	}
}

// read hands on the answers of a stream, which is opened again when it breaks, until it ends or `take` returns false.
func read[T any](
	ctx context.Context, patience time.Duration, open func(context.Context) (grpc.ServerStreamingClient[T], error), take func(*T) bool,
) error {
	wait := firstWait
	lastHeard := time.Now()
	for {
		heard, err := readOnce(ctx, open, take)
		if err == nil || ctx.Err() != nil || !interrupted(err) {
			return err
		}
		if heard {
			wait, lastHeard = firstWait, time.Now()
		}
		if time.Since(lastHeard) > patience {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
		wait = min(2*wait, longestWait)
	}
}

// readOnce tells whether anything came. Its error is nil when the stream ended or `take` had enough.
func readOnce[T any](
	ctx context.Context, open func(context.Context) (grpc.ServerStreamingClient[T], error), take func(*T) bool,
) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx) // ends the call at the server when its answers are wanted no more
	defer cancel()
	stream, err := open(ctx)
	if err != nil {
		return false, err
	}
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return heard, nil
		}
		if err != nil {
			return heard, err
		}
		heard = true
		if !take(answer) {
			return heard, nil
		}
	}
}

type place struct {
	rank   int32
	stream jobsv1.OutputStream
}

// places: how far each stream of each rank was read.
type places map[place]int64

func newPlaces(offsets []*jobsv1.FollowOffset) places {
	made := places{}
	for _, offset := range offsets {
		made[place{offset.Rank, offset.Stream}] = offset.Offset
	}
	return made
}

// newOf is what of a piece was not there before; nil = nothing.
func (p places) newOf(piece *jobsv1.FollowResponse) *jobsv1.FollowResponse {
	at := place{piece.Rank, piece.Stream}
	known := max(p[at]-piece.Offset, 0)
	if known >= int64(len(piece.Data)) {
		return nil
	}
	p[at] = piece.Offset + int64(len(piece.Data))
	piece.Offset += known
	piece.Data = piece.Data[known:]
	return piece
}

func (p places) offsets() []*jobsv1.FollowOffset {
	made := make([]*jobsv1.FollowOffset, 0, len(p))
	for at, offset := range p {
		made = append(made, &jobsv1.FollowOffset{Rank: at.rank, Stream: at.stream, Offset: offset})
	}
	return made
}
