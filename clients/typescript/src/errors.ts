/** What an error of a call means: its reason, and whether it is the connection's fault and not an answer of Serai. */

import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { Code, ConnectError } from "@connectrpc/connect";

const DETAILS = "grpc-status-details-bin";
const ERROR_INFO = "google.rpc.ErrorInfo";
const DOMAIN = "serai";

/** The error's reason of docs/errors.md, like "JOB_UNKNOWN"; undefined where Serai did not say one. */
export function reasonOf(error: unknown): string | undefined {
  if (!(error instanceof ConnectError)) return undefined;
  for (const detail of error.details) {
    if (!("type" in detail) || detail.type !== ERROR_INFO) continue;
    const [reason, domain] = texts(detail.value);
    if (domain === DOMAIN) return reason;
  }
  return undefined;
}

/** The texts of a message's fields 1 and 2: `reason` and `domain` of ErrorInfo. */
function texts(bytes: Uint8Array): [string, string] {
  const found: [string, string] = ["", ""];
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if ((field === 1 || field === 2) && type === WireType.LengthDelimited) found[field - 1] = reader.string();
    else reader.skip(type, field);
  }
  return found;
}

/** "NOT_FOUND: job 1 is not known": the error in one line, with its code as gRPC names it. */
export function explain(error: unknown): string {
  const words = error instanceof ConnectError ? `${codeName(error.code)}: ${error.rawMessage}` : String(error);
  return words.replace(/\s+/g, " ").trim();
}

function codeName(code: Code): string {
  return Code[code].replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
}

/** Codes that libraries give to a connection that broke, besides UNAVAILABLE. Of Serai they come with details. */
const OF_CONNECTIONS: ReadonlySet<Code> = new Set([Code.Aborted, Code.Canceled, Code.Internal, Code.Unknown]);

/**
 * Whether trying again is right: nobody answered, or the answer broke off. Everything that Serai itself says is final, but UNAVAILABLE: a
 * server that stops or starts, a store or backend that is away for a while.
 */
export function isCut(error: unknown): boolean {
  if (!(error instanceof ConnectError)) return false;
  if (error.code === Code.Unavailable) return true;
  const spoken = error.metadata.has(DETAILS) || error.details.length > 0;
  return OF_CONNECTIONS.has(error.code) && !spoken;
}
