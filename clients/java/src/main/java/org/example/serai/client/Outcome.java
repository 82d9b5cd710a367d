package org.example.serai.client;

import org.example.serai.jobs.v1.JobReport;
import org.example.serai.jobs.v1.JobState;
import org.example.serai.jobs.v1.ReplicaReport;

/** What a job's report says about how it ended. */
public final class Outcome {

    private Outcome() {}

    /** Whether a job in this state is over. */
    public static boolean isFinal(JobState state) {
        return switch (state) {
            case JOB_STATE_SUCCESS, JOB_STATE_FAILURE, JOB_STATE_EXPIRED -> true;
            default -> false;
        };
    }

    /** "RUNNING", as people write a state. */
    public static String name(JobState state) {
        return state.name().replaceFirst("^JOB_STATE_", "");
    }

    /**
     * The exit code of a job that is over, as a shell would tell it: that of the first replica which did not end with 0, 128 and the
     * signal for one that a signal ended, 1 for a job that is no SUCCESS for another reason, else 0.
     */
    public static int exitCode(JobReport report) {
        for (ReplicaReport replica : report.getReplicaReportsList()) {
            if (replica.hasSignal()) {
                return 128 + replica.getSignal();
            }
            if (replica.getExitCode() != 0) {
                return replica.getExitCode();
            }
        }
        return report.getState() == JobState.JOB_STATE_SUCCESS ? 0 : 1;
    }
}
