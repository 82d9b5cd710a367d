package serai

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"time"

	corev1 "example.org/serai/clients/go/api/serai/core/v1"
	jobsv1 "example.org/serai/clients/go/api/serai/jobs/v1"
)

// JobSpec is what one must know of a job that runs one program. [JobSpec.Job] makes the message of it, in which anything else can be set.
type JobSpec struct {
	// ID of the job: 1 to 64 letters, digits, '-' and '_'; empty = a new one by chance.
	ID string
	// Owner is the username in whose drive the output is kept.
	Owner string
	// Project of the owner; empty = their personal workspace. Must be the token's project where the token has one.
	Project string
	// Product is the machine type; RetrieveProducts lists those that there are.
	Product *corev1.ProductReference
	// Image of the container, where jobs run in containers.
	Image string
	// Command is the program and its arguments, each unchanged.
	Command []string
	// Environment of the program, beside what Serai sets.
	Environment map[string]string
	// Name for people; empty = none.
	Name string
	// Replicas that run the command at the same time; 0 = 1.
	Replicas int32
	// TimeLimit of RUNNING, in whole seconds, rounded up; 0 = none.
	TimeLimit time.Duration
}

// Job is the message that JobsService.Create takes.
func (s JobSpec) Job() *jobsv1.Job {
	id := s.ID
	if id == "" {
		id = newID()
	}
	what := &corev1.NameAndVersion{Name: "tool", Version: "1"}
	job := &jobsv1.Job{
		Id:            id,
		Owner:         &corev1.ResourceOwner{CreatedBy: s.Owner, Project: unlessEmpty(s.Project)},
		Specification: &jobsv1.JobSpecification{Application: what, Product: s.Product, Name: unlessEmpty(s.Name)},
		Status:        &jobsv1.JobStatus{State: jobsv1.JobState_JOB_STATE_IN_QUEUE, ResolvedApplication: s.application(what)},
	}
	if s.Replicas > 0 {
		job.Specification.Replicas = &s.Replicas
	}
	if s.TimeLimit > 0 {
		seconds := int32((s.TimeLimit + time.Second - 1) / time.Second)
		job.Specification.TimeAllocation = &corev1.SimpleDuration{Hours: seconds / 3600, Minutes: seconds / 60 % 60, Seconds: seconds % 60}
	}
	return job
}

func (s JobSpec) application(what *corev1.NameAndVersion) *jobsv1.Application {
	tool := &jobsv1.ToolDescription{Info: what, Backend: jobsv1.ToolBackend_TOOL_BACKEND_DOCKER, Image: unlessEmpty(s.Image)}
	invocation := &jobsv1.ApplicationInvocation{
		Tool:            &jobsv1.ToolReference{Name: what.Name, Version: what.Version, Tool: &jobsv1.Tool{Description: tool}},
		ApplicationType: jobsv1.ApplicationType_APPLICATION_TYPE_BATCH,
		AllowMultiNode:  s.Replicas > 1,
		Environment:     map[string]*jobsv1.InvocationParameter{},
	}
	for _, argument := range s.Command {
		invocation.Invocation = append(invocation.Invocation, word(argument))
	}
	for name, value := range s.Environment {
		invocation.Environment[name] = word(value)
	}
	return &jobsv1.Application{
		Metadata:   &jobsv1.ApplicationMetadata{Name: what.Name, Version: what.Version, Title: "Tool"},
		Invocation: invocation,
	}
}

func word(text string) *jobsv1.InvocationParameter {
	return &jobsv1.InvocationParameter{Parameter: &jobsv1.InvocationParameter_Word{Word: &jobsv1.WordInvocation{Word: text}}}
}

func unlessEmpty(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func newID() string {
	random := make([]byte, 8)
	_, _ = rand.Read(random) // never fails
	return "tool-" + hex.EncodeToString(random)
}

// Submit hands a job over. When it returns nil the server has stored the job; it runs later. The same job may be submitted again when
// it is not known whether the first time succeeded: it runs once.
func (c *Client) Submit(ctx context.Context, job *jobsv1.Job) error {
	_, err := c.Jobs.Create(ctx, &jobsv1.CreateRequest{Items: []*jobsv1.Job{job}})
	return err
}

// Final tells whether a job in this state is over.
func Final(state jobsv1.JobState) bool {
	switch state {
	case jobsv1.JobState_JOB_STATE_SUCCESS, jobsv1.JobState_JOB_STATE_FAILURE, jobsv1.JobState_JOB_STATE_EXPIRED:
		return true
	}
	return false
}

// ExitCode of a job that is over, as a shell would tell it: that of the first replica which did not end with 0, 128 and the signal for
// one that a signal ended, 1 for a job that is no SUCCESS for another reason, else 0.
func ExitCode(report *jobsv1.JobReport) int {
	for _, replica := range report.GetReplicaReports() {
		if replica.Signal != nil {
			return 128 + int(replica.GetSignal())
		}
		if replica.GetExitCode() != 0 {
			return int(replica.GetExitCode())
		}
	}
	if report.GetState() != jobsv1.JobState_JOB_STATE_SUCCESS {
		return 1
	}
	return 0
}
