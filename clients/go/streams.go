package serai

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
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
		final := false
		take := func(answer *jobsv1.WatchResponse) (bool, error) {
			final = Final(answer.GetJob().GetState())
			return yield(answer.Job, nil), nil
		}
		ended := func() error {
			if final {
				return nil
			}
			return status.Error(codes.Unavailable, "the server stopped telling about the job before it was over")
		}
		if err := read(ctx, c, reading[jobsv1.WatchResponse]{open, take, ended}); err != nil {
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
// output, over broken connections and restarts of the server. No byte is lost and none comes twice; DATA_LOSS is the error if the server
// leaves some out. An error is the last thing that is yielded.
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
		take := func(piece *jobsv1.FollowResponse) (bool, error) {
			fresh, err := places.newOf(piece, request.TailBytes > 0)
			return err == nil && (fresh == nil || yield(fresh, nil)), err
		}
		ended := func() error { return nil }
		if err := read(ctx, c, reading[jobsv1.FollowResponse]{open, take, ended}); err != nil {
			yield(nil, err)
		}
	}
}

// reading is a call whose answers are read over breaks.
type reading[T any] struct {
	open func(context.Context) (grpc.ServerStreamingClient[T], error)
	// take is given each answer; false = no more are wanted.
	take func(*T) (bool, error)
	// ended says what it means that the server ended the stream; nil = everything came.
	ended func() error
}

// read hands on the answers of a stream, which is opened again when it breaks, until it ends or no more are wanted.
//
// Patience begins at the first break after the server was there, however long the stream was quiet until then.
func read[T any](ctx context.Context, client *Client, r reading[T]) error {
	wait := firstWait
	var awaySince time.Time
	for {
		heard, err := readOnce(ctx, r)
		if err == nil || ctx.Err() != nil || client.closed() || !interrupted(err) {
			return err
		}
		if heard || awaySince.IsZero() {
			wait, awaySince = firstWait, time.Now()
		}
		if time.Since(awaySince) > client.patience {
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

// readOnce tells whether the stream was open, also if nothing came. Its error is nil when everything came or no more was wanted.
func readOnce[T any](ctx context.Context, r reading[T]) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx) // ends the call at the server when its answers are wanted no more
	defer cancel()
	stream, err := r.open(ctx)
	if err != nil {
		return false, err
	}
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return true, r.ended()
		}
		if err != nil {
			header, _ := stream.Header() // nil when an error is all that came
			return header != nil, err
		}
		if more, err := r.take(answer); !more {
			return true, err
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

// newOf is what of a piece was not there before; nil = nothing. anywhere: a stream that was not read yet need not begin at its beginning.
func (p places) newOf(piece *jobsv1.FollowResponse, anywhere bool) (*jobsv1.FollowResponse, error) {
	at := place{piece.Rank, piece.Stream}
	reached, begun := p[at]
	if !begun && anywhere {
		reached = piece.Offset
	}
	if piece.Offset > reached {
		const words = "bytes %d to %d of the output of rank %d did not come"
		return nil, status.Errorf(codes.DataLoss, words, reached, piece.Offset, piece.Rank)
	}
	known := reached - piece.Offset
	if known >= int64(len(piece.Data)) {
		return nil, nil
	}
	p[at] = piece.Offset + int64(len(piece.Data))
	piece.Offset += known
	piece.Data = piece.Data[known:]
	return piece, nil
}

func (p places) offsets() []*jobsv1.FollowOffset {
	made := make([]*jobsv1.FollowOffset, 0, len(p))
	for at, offset := range p {
		made = append(made, &jobsv1.FollowOffset{Rank: at.rank, Stream: at.stream, Offset: offset})
	}
	return made
}
