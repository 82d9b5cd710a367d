/** A job's reports until it is final, over cut connections and restarts of the server. */

import { equals } from "@bufbuild/protobuf";
import { Code, ConnectError, type Client } from "@connectrpc/connect";
import { Tries } from "./again.js";
import type { JobReport, JobsService } from "./gen/serai/jobs/v1/jobs_service_pb.js";
import { JobReportSchema } from "./gen/serai/jobs/v1/jobs_service_pb.js";
import type { StreamOptions } from "./options.js";
import { isFinal } from "./outcome.js";

/** The report as it is now, then after each change; the last one is final. */
export async function* watch(
  jobs: Client<typeof JobsService>,
  patienceMs: number,
  jobId: string,
  options: StreamOptions,
): AsyncGenerator<JobReport, void, undefined> {
  const tries = new Tries(patienceMs, options);
  let last: JobReport | undefined;
  for (;;) {
    try {
      for await (const { job } of jobs.watch({ jobId }, { signal: options.signal, onHeader: tries.succeeded })) {
        if (job === undefined) continue;
        tries.succeeded();
        if (last === undefined || !same(last, job)) yield job;
        last = job;
      }
      if (last !== undefined && isFinal(last.state)) return;
      throw new ConnectError("the server stopped telling about the job before it was over", Code.Unavailable);
    } catch (error) {
      await tries.failed(error);
    }
  }
}

/** Whether nothing happened in between: after a cut the report comes once more, with another age. */
function same(one: JobReport, other: JobReport): boolean {
  return equals(JobReportSchema, { ...one, ageMs: other.ageMs }, other);
}
