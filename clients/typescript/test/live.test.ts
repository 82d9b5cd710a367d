/** Against the live server that SERAI_ADDRESS names, where there is one. */

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Code, connect, OutputStream, reasonOf } from "@serai/client/node";

const { SERAI_ADDRESS: address, SERAI_TOKEN: token, SERAI_CA: caFile } = process.env;

describe("a live Serai", { skip: address === undefined && "SERAI_ADDRESS names no server" }, () => {
  it("runs a job, knows it afterwards, and says its reason where it knows none", async () => {
    const serai = connect(address!, { token, caFile });
    try {
      const request = {
        owner: "tools",
        command: ["sh", "-c", 'echo "$GREETING"'],
        environment: { GREETING: "hello from TypeScript" },
        submissionId: crypto.randomUUID(),
      };
      const { jobId } = await serai.jobs.submit(request);
      assert.equal((await serai.jobs.submit(request)).jobId, jobId);
      await assert.rejects(serai.jobs.submit({ ...request, command: ["true"] }), { code: Code.AlreadyExists });
      await serai.untilFinal(jobId);
      let text = "";
      for await (const { stream, data } of serai.follow(jobId, { follow: false })) {
        if (stream === OutputStream.STDOUT) text += new TextDecoder().decode(data);
      }
      assert.equal(text, "hello from TypeScript\n");
      const { jobs } = await serai.jobs.list({ owner: "tools" });
      assert.ok(jobs.some(({ id }) => id === jobId));
      await serai.stop(jobId); // over already: nothing happens
      await assert.rejects(serai.jobs.get({ jobId: "no-such-job" }), (error) => {
        assert.equal(reasonOf(error), "JOB_UNKNOWN");
        assert.equal((error as { code: Code }).code, Code.NotFound);
        return true;
      });
    } finally {
      serai.close();
    }
  });
});
