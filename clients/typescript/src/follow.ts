/** Follows the output of a job's replicas over cut connections and restarts of the server, without a byte lost or repeated. */

import type { Client } from "@connectrpc/connect";
import { Tries } from "./again.js";
import type { FollowResponse, JobsService } from "./gen/serai/jobs/v1/jobs_service_pb.js";
import type { StreamOptions } from "./options.js";
import { Places } from "./places.js";

export interface FollowOptions extends StreamOptions {
  /** Only these; left out = every rank. */
  ranks?: readonly number[];
  /** Where to begin; it is kept at what was handed out, so that whoever stores `places.all()` can go on later. */
  places?: Places;
  /** false: end at the output's present end. Left out: go on until the job's output ends. */
  follow?: boolean;
}

/** Each piece comes once, with its place: at most 64 KiB of one stream of one replica. Throws DataLoss when the server leaves some out. */
export async function* follow(
  jobs: Client<typeof JobsService>,
  patienceMs: number,
  jobId: string,
  options: FollowOptions,
): AsyncGenerator<FollowResponse, void, undefined> {
  const { ranks = [], places = new Places(), signal } = options;
  const tries = new Tries(patienceMs, options);
  for (;;) {
    const request = { jobId, ranks: [...ranks], offsets: places.all(), follow: options.follow ?? true };
    try {
      for await (const piece of jobs.follow(request, { signal, onHeader: tries.succeeded })) {
        tries.succeeded();
        const fresh = places.take(piece);
        if (fresh !== undefined) yield fresh;
      }
      return;
    } catch (error) {
      await tries.failed(error);
    }
  }
}
