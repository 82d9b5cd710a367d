/**
 * Jobs of a Serai compute provider: what is the same in Node and in browsers.
 *
 * `@serai/client/node` and `@serai/client/web` make a connection; all that happens on it stands here. Every message and service of the API
 * is at `@serai/client/gen/…`.
 */

export { Serai } from "./client.js";
export type { CallOptions, Options, StreamOptions, TokenSource } from "./options.js";
export { exitCode, isFinal, stateName } from "./outcome.js";
export { Places } from "./places.js";
export type { Place } from "./places.js";
export type { FollowOptions } from "./follow.js";
export { explain, reasonOf } from "./errors.js";
export type { FollowResponse, JobReport, ReplicaReport, SubmitRequest, SubmitResponse } from "./gen/serai/jobs/v1/jobs_service_pb.js";
export { OutputStream } from "./gen/serai/jobs/v1/jobs_service_pb.js";
export { JobState } from "./gen/serai/jobs/v1/job_pb.js";
export { Code, ConnectError } from "@connectrpc/connect";
