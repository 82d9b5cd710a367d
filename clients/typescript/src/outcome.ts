/** What a job's report says about how it ended. */

import { JobState } from "./gen/serai/jobs/v1/job_pb.js";
import type { JobReport } from "./gen/serai/jobs/v1/jobs_service_pb.js";

const FINAL: ReadonlySet<JobState> = new Set([JobState.SUCCESS, JobState.FAILURE, JobState.EXPIRED]);
/** As shells say that a signal ended a program. */
const SIGNALED = 128;

/** Whether nothing of the job will change any more. */
export function isFinal(state: JobState): boolean {
  return FINAL.has(state);
}

/** "RUNNING", as people write a state. */
export function stateName(state: JobState): string {
  return JobState[state] ?? `state ${state}`;
}

/**
 * The exit code of a job that is over, as a shell would tell it: that of the first replica which did not end with 0, 128 and the signal for
 * one that a signal ended, 1 for a job that is no SUCCESS for another reason, else 0.
 *
 * It is not told by the state alone: for UCloud of generation 2021 a job whose program failed is a SUCCESS.
 */
export function exitCode(report: JobReport): number {
  for (const { exitCode: code, signal } of report.replicaReports) {
    if (signal) return SIGNALED + signal;
    if (code) return code;
  }
  return report.state === JobState.SUCCESS ? 0 : 1;
}
