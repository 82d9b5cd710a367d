package serai

import jobsv1 "example.org/serai/clients/go/api/serai/jobs/v1"

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
