/** How far the output of a job was read: what a reader must keep to go on after a cut, in this process or in a later one. */

import { Code, ConnectError } from "@connectrpc/connect";
import type { FollowResponse } from "./gen/serai/jobs/v1/jobs_service_pb.js";
import { OutputStream } from "./gen/serai/jobs/v1/jobs_service_pb.js";

/** Of one stream of one replica. */
export interface Place {
  /** 0 to replicas - 1. */
  rank: number;
  stream: OutputStream;
  /** Bytes from the stream's beginning that were read. */
  offset: bigint;
}

export class Places {
  private readonly known = new Map<string, Place>();

  /** `places`: where to begin; streams that are not in it begin at their beginning. */
  constructor(places: Iterable<Place> = []) {
    for (const { rank, stream, offset } of places) this.known.set(`${rank}/${stream}`, { rank, stream, offset });
  }

  /** What of `piece` was not there before, and that it is read now; undefined = nothing. Throws DataLoss when some before it did not come. */
  take(piece: FollowResponse): FollowResponse | undefined {
    const key = `${piece.rank}/${piece.stream}`;
    const end = piece.offset + BigInt(piece.data.length);
    const read = this.known.get(key)?.offset ?? 0n;
    if (piece.offset > read) throw missing(piece.rank, read, piece.offset);
    if (end <= read) return undefined;
    this.known.set(key, { rank: piece.rank, stream: piece.stream, offset: end });
    if (piece.offset === read) return piece;
    return { ...piece, offset: read, data: piece.data.subarray(Number(read - piece.offset)) };
  }

  /** As numbers and bigints, to be stored and given to a new `Places`. */
  all(): Place[] {
    return [...this.known.values()].map((place) => ({ ...place }));
  }
}

function missing(rank: number, from: bigint, to: bigint): ConnectError {
  return new ConnectError(`bytes ${from} to ${to} of the output of rank ${rank} did not come`, Code.DataLoss);
}
