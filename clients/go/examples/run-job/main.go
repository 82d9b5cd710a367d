// Runs a program as a job of Serai: submits it, tells its states, writes what it writes, and ends with its exit code.
//
//	go build -o build/ ./examples/run-job
//	SERAI_ADDRESS=https://serai.example.org SERAI_TOKEN=serai_… build/run-job sh -c 'echo Hello'
//
// Its own words come on stderr and begin with "serai: ". 125 = the job could not be submitted or followed.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	serai "example.org/serai/clients/go"
	jobsv1 "example.org/serai/clients/go/api/serai/jobs/v1"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: run-job PROGRAM [ARGUMENT...]")
		os.Exit(125)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code, err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "serai:", serai.Explain(err))
		os.Exit(125)
	}
	os.Exit(code)
}

func run(ctx context.Context, command []string) (int, error) {
	client, err := serai.Connect(os.Getenv("SERAI_ADDRESS"), serai.Options{
		Token:           os.Getenv("SERAI_TOKEN"),
		CAFile:          os.Getenv("SERAI_CA"),
		CertificateFile: os.Getenv("SERAI_CERTIFICATE"),
		KeyFile:         os.Getenv("SERAI_KEY"),
	})
	if err != nil {
		return 0, err
	}
	defer client.Close()

	job, err := client.Jobs.Submit(ctx, &jobsv1.SubmitRequest{
		Owner:   "tools",
		Project: os.Getenv("SERAI_PROJECT"),
		Image:   os.Getenv("SERAI_IMAGE"),
		Command: command,
	})
	if err != nil {
		return 0, err
	}
	fmt.Fprintln(os.Stderr, "serai: job", job.JobId, "submitted")

	logs := make(chan error, 1)
	go func() { logs <- printLogs(ctx, client, job.JobId) }()
	last, err := printStates(ctx, client, job.JobId)
	if err == nil {
		err = <-logs
	}
	if err != nil {
		return 0, err
	}
	code := serai.ExitCode(last)
	fmt.Fprintf(os.Stderr, "serai: job %s ended: exit code %d\n", job.JobId, code)
	return code, nil
}

func printStates(ctx context.Context, client *serai.Client, id string) (last *jobsv1.JobReport, err error) {
	for report, err := range client.Watch(ctx, id) {
		if err != nil {
			return nil, err
		}
		if last == nil || last.State != report.State {
			fmt.Fprintf(os.Stderr, "serai: job %s is %s\n", id, report.State.String()[len("JOB_STATE_"):])
		}
		last = report
	}
	return last, nil
}

func printLogs(ctx context.Context, client *serai.Client, id string) error {
	for piece, err := range client.Follow(ctx, &jobsv1.FollowRequest{JobId: id, Follow: true}) {
		if err != nil {
			return err
		}
		target := os.Stdout
		if piece.Stream == jobsv1.OutputStream_OUTPUT_STREAM_STDERR {
			target = os.Stderr
		}
		if _, err := target.Write(piece.Data); err != nil {
			return err
		}
	}
	return nil
}
