/** What is read without a connection: results, places, reasons. */

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { create } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { Code, ConnectError, exitCode, explain, isFinal, JobState, OutputStream, Places, reasonOf, stateName } from "@serai/client";
import { FollowResponseSchema, JobReportSchema } from "@serai/client/gen/serai/jobs/v1/jobs_service_pb";

describe("exitCode", () => {
  const cases: [string, JobState, { rank: number; exitCode?: number; signal?: number }[], number][] = [
    ["of a program that ended well", JobState.SUCCESS, [{ rank: 0, exitCode: 0 }], 0],
    ["of a program that failed, which is a SUCCESS for UCloud of 2021", JobState.SUCCESS, [{ rank: 0, exitCode: 7 }], 7],
    [
      "of the first replica that failed",
      JobState.FAILURE,
      [
        { rank: 0, exitCode: 0 },
        { rank: 1, exitCode: 8 },
        { rank: 2, exitCode: 9 },
      ],
      8,
    ],
    ["of a signal, as shells say it", JobState.SUCCESS, [{ rank: 0, signal: 15 }], 143],
    ["of a job that is no success without a code", JobState.EXPIRED, [{ rank: 0, exitCode: 0 }], 1],
  ];
  for (const [what, state, replicaReports, expected] of cases) {
    it(`is that ${what}`, () => assert.equal(exitCode(create(JobReportSchema, { state, replicaReports })), expected));
  }

  it("has states to go with it", () => {
    assert.deepEqual([JobState.RUNNING, JobState.CANCELING, JobState.SUSPENDED].map(isFinal), [false, false, false]);
    assert.deepEqual([JobState.SUCCESS, JobState.FAILURE, JobState.EXPIRED].map(isFinal), [true, true, true]);
    assert.equal(stateName(JobState.IN_QUEUE), "IN_QUEUE");
  });
});

describe("Places", () => {
  const piece = (offset: number, text: string, stream = OutputStream.STDOUT) =>
    create(FollowResponseSchema, { rank: 0, stream, offset: BigInt(offset), data: new TextEncoder().encode(text) });
  const text = (data: Uint8Array | undefined) => new TextDecoder().decode(data);

  it("cuts off what was read, to the byte, in each stream by itself", () => {
    const places = new Places();
    assert.equal(text(places.take(piece(0, "abcd"))?.data), "abcd");
    assert.equal(places.take(piece(0, "abcd")), undefined);
    assert.throws(() => new Places().take(piece(2, "cd")), /bytes 0 to 2 of the output of rank 0 did not come/);
    const rest = places.take(piece(2, "cdef"));
    assert.deepEqual([rest?.offset, text(rest?.data)], [4n, "ef"]);
    assert.equal(text(places.take(piece(0, "ab", OutputStream.STDERR))?.data), "ab");
    assert.deepEqual(
      new Places(places.all()).all().map(({ stream, offset }) => [stream, offset]),
      [
        [OutputStream.STDOUT, 6n],
        [OutputStream.STDERR, 2n],
      ],
    );
  });
});

/** google.rpc.ErrorInfo: reason is field 1, domain 2. */
function errorInfo(reason: string, domain: string): Uint8Array {
  return new BinaryWriter().tag(1, WireType.LengthDelimited).string(reason).tag(2, WireType.LengthDelimited).string(domain).finish();
}

describe("reasonOf", () => {
  it("reads the reason out of the error's details", () => {
    const value = errorInfo("JOB_UNKNOWN", "serai");
    const error = new ConnectError("there is no such job", Code.NotFound);
    error.details = [
      { type: "google.rpc.BadRequest", value: new Uint8Array() },
      { type: "google.rpc.ErrorInfo", value: errorInfo("RATE_LIMITED", "envoy.example.org") },
      { type: "google.rpc.ErrorInfo", value },
    ];
    assert.equal(reasonOf(error), "JOB_UNKNOWN");
    assert.equal(explain(error), "NOT_FOUND: there is no such job");
  });

  it("is undefined where nothing is said", () => {
    assert.equal(reasonOf(new ConnectError("no", Code.Unavailable)), undefined);
    assert.equal(reasonOf(new Error("no")), undefined);
  });
});
