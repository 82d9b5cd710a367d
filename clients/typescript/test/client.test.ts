/** The client over real connections to a server of the test's own, once by gRPC and once by gRPC-Web. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import { Code, connect, ConnectError, explain, JobState, Places, type Options, type Serai } from "@serai/client/node";
import { connect as connectWeb } from "@serai/client/web";
import { FakeSerai, TOKEN } from "./fake-serai.js";

const JOB = "one";
const REQUEST = { owner: "user", command: ["true"], submissionId: JOB };

for (const way of ["gRPC", "gRPC-Web"] as const) {
  describe(`over ${way}`, () => {
    let fake: FakeSerai;
    let serai: Serai;

    const open = (options: Options = {}): Serai =>
      way === "gRPC" ? connect(fake.address, { token: TOKEN, ...options }) : connectWeb(fake.webAddress, { token: TOKEN, ...options });

    beforeEach(async () => {
      fake = await FakeSerai.start();
      fake.jobs.add(JOB);
      serai = open();
    });

    afterEach(() => {
      serai.close();
      fake.stop();
    });

    it("puts the token on each call, whatever its shape, and asks a function for it each time", async () => {
      let asked = 0;
      const renewing = open({ token: () => (asked++ < 1 ? TOKEN : "serai_renewed") });
      await renewing.jobs.submit(REQUEST);
      await assert.rejects(renewing.untilFinal(JOB), { code: Code.Unauthenticated, rawMessage: "this token is not known" });
      assert.deepEqual(fake.tokens, [`Bearer ${TOKEN}`, "Bearer serai_renewed"]);
      renewing.close();
    });

    it("ends a call that gets no answer after its time", async () => {
      fake.silent = true;
      const hasty = open({ callTimeoutMs: 100 });
      await assert.rejects(hasty.jobs.submit(REQUEST), { code: Code.DeadlineExceeded });
      hasty.close();
    });

    it("submits a program, and says at once that nobody answers", async () => {
      fake.jobs.clear();
      assert.equal((await serai.jobs.submit(REQUEST)).jobId, JOB);
      assert.deepEqual([...fake.jobs], [JOB]);
      fake.unavailable = 1;
      await assert.rejects(serai.jobs.submit(REQUEST), { code: Code.Unavailable });
    });

    it("watches a job until it is final, each change once, also when the connection breaks before and in between", async () => {
      fake.breaks.push(1, 1);
      const states: JobState[] = [];
      for await (const report of serai.watch(JOB)) states.push(report.state);
      assert.deepEqual(states, [JobState.IN_QUEUE, JobState.RUNNING, JobState.SUCCESS]);
      assert.ok(fake.watches > 1);
      assert.equal((await serai.untilFinal(JOB)).state, JobState.SUCCESS);
    });

    it("asks again when a watch stops before the job is over", async () => {
      fake.states = [JobState.RUNNING];
      const cuts: string[] = [];
      const onCut = (error: unknown) => {
        cuts.push(explain(error));
        fake.states = [JobState.RUNNING, JobState.FAILURE];
      };
      assert.equal((await serai.untilFinal(JOB, { onCut })).state, JobState.FAILURE);
      assert.deepEqual(cuts, ["UNAVAILABLE: the server stopped telling about the job before it was over"]);
    });

    it("follows output over broken connections without a byte lost or repeated", async () => {
      fake.output = new Uint8Array(20_500).map((_, at) => (at * 7 + (at >> 8)) % 256);
      fake.breaks.push(3, 0, 6);
      const places = new Places();
      const pieces: Uint8Array[] = [];
      for await (const piece of serai.follow(JOB, { places })) pieces.push(piece.data);
      assert.deepEqual(Buffer.concat(pieces), Buffer.from(fake.output));
      assert.equal(fake.follows.length, 4);
      assert.deepEqual(fake.breaks, []);
      assert.deepEqual(
        places.all().map((place) => place.offset),
        [20_500n],
      );
    });

    it("does not count a quiet stream as an absence: goes on after its break, and after the next one", async () => {
      fake.output = new TextEncoder().encode("at last");
      const hasty = open({ patienceMs: 100 });
      for (const read of [
        async () => assert.equal((await hasty.untilFinal(JOB)).state, JobState.SUCCESS),
        async () => {
          let text = "";
          for await (const { data } of hasty.follow(JOB)) text += new TextDecoder().decode(data);
          assert.equal(text, "at last");
        },
      ]) {
        fake.quietMs.push(300, 300);
        await read();
        assert.deepEqual(fake.quietMs, []);
      }
      hasty.close();
    });

    it("throws when the server leaves out some of the output", async () => {
      fake.output = new Uint8Array(5_000);
      fake.leftOut = 10;
      fake.breaks.push(3);
      const read = async () => {
        for await (const _ of serai.follow(JOB));
      };
      await assert.rejects(read, { code: Code.DataLoss, rawMessage: /^bytes \d000 to \d010 of the output of rank 0 did not come$/ });
      assert.equal(fake.follows.length, 2);
    });

    it("goes on where another reader stopped", async () => {
      fake.output = new TextEncoder().encode("what was read, and the rest");
      const kept = JSON.stringify([{ rank: 0, stream: 1, offset: 15 }]);
      const places = new Places(JSON.parse(kept).map((at: { offset: number }) => ({ ...at, offset: BigInt(at.offset) })));
      let text = "";
      for await (const { data } of serai.follow(JOB, { places })) text += new TextDecoder().decode(data);
      assert.equal(text, "and the rest");
    });

    it("throws what the server says, and does not ask again", async () => {
      await assert.rejects(serai.follow("nobody").next(), { code: Code.NotFound, rawMessage: "job nobody is not known" });
      await assert.rejects(serai.untilFinal("nobody"), { code: Code.NotFound });
      assert.equal(fake.tokens.length, 2);
    });

    it("gives up when the server is away for longer than its patience", async () => {
      fake.unavailable = 1_000;
      await assert.rejects(open({ patienceMs: 500 }).follow(JOB).next(), { code: Code.Unavailable });
      assert.ok(fake.tokens.length > 1);
    });

    it("ends a watch when the client is closed, and does not look for the server again", async () => {
      fake.states = [JobState.RUNNING];
      const closed = open();
      const reports = closed.watch(JOB, { onCut: () => setImmediate(() => closed.close()) });
      assert.equal((await reports.next()).value?.state, JobState.RUNNING);
      await assert.rejects(reports.next(), { code: Code.Canceled });
      assert.equal(fake.tokens.length, 1);
    });

    it("ends at once when it is aborted: in a stream, and in the wait before the next try", async () => {
      fake.states = [JobState.RUNNING];
      const abort = new AbortController();
      const reports = serai.watch(JOB, { signal: abort.signal, onCut: () => setImmediate(() => abort.abort()) });
      assert.equal((await reports.next()).value?.state, JobState.RUNNING);
      await assert.rejects(reports.next(), (error) => error instanceof ConnectError && error.code === Code.Canceled);

      fake.output = new Uint8Array(100_000);
      const other = new AbortController();
      await assert.rejects(
        async () => {
          for await (const _ of serai.follow(JOB, { signal: other.signal })) other.abort();
        },
        (error) => error instanceof ConnectError && error.code === Code.Canceled,
      );
    });
  });
}

describe("an address", () => {
  it("that is none is refused with what is expected", () => {
    for (const wrong of ["localhost:8090", "grpc://there", "https://", ""]) {
      assert.throws(() => connect(wrong), /expected https:\/\/host:port/);
    }
  });

  it("without TLS takes no certificates", () => {
    assert.throws(() => connect("http://localhost:1", { caFile: "ca.pem" }), /for https:\/\/ addresses only/);
    assert.throws(() => connect("unix:/s.sock", { certificateFile: "own.pem", keyFile: "own.key" }), /for https:\/\/ addresses only/);
  });

  it("without TLS gets no token, but on this machine or when the caller says so", () => {
    assert.throws(() => connect("http://serai.example.org", { token: "t" }), /without TLS/);
    assert.throws(() => connectWeb("http://serai.example.org", { token: "t" }), /without TLS/);
    for (const other of ["http://x.localhost", "http://127.0.0.1.example.org"]) {
      assert.throws(() => connect(other, { token: "t" }), /without TLS/);
    }
    connect("http://serai.example.org", { token: "t", insecureToken: true }).close();
    for (const here of ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "unix:/s.sock", "https://serai.example.org"]) {
      connect(here, { token: "t" }).close();
    }
  });
});
