/**
 * Runs a program as a job of Serai: submits it, tells its states, writes what it writes, and ends with its exit code.
 *
 *     SERAI_ADDRESS=https://serai.example.org SERAI_TOKEN=serai_… node build/examples/run-job.js sh -c 'echo Hello'
 *
 * Its own words come on stderr and begin with "serai: ". 125 = the job could not be submitted or followed.
 */

import { connect, exitCode, explain, OutputStream, stateName, type Serai } from "@serai/client/node";

const NO_RESULT = 125;

async function run(command: string[]): Promise<number> {
  const serai = connect(process.env["SERAI_ADDRESS"] ?? "", {
    token: process.env["SERAI_TOKEN"],
    caFile: process.env["SERAI_CA"],
    certificateFile: process.env["SERAI_CERTIFICATE"],
    keyFile: process.env["SERAI_KEY"],
  });
  try {
    const { SERAI_PROJECT: project, SERAI_IMAGE: image } = process.env;
    const { jobId } = await serai.jobs.submit({ owner: "tools", project, image, command });
    say(`job ${jobId} submitted`);
    const [code] = await Promise.all([tellStates(serai, jobId), copyOutput(serai, jobId)]);
    say(`job ${jobId} ended: exit code ${code}`);
    return code;
  } finally {
    serai.close();
  }
}

async function tellStates(serai: Serai, jobId: string): Promise<number> {
  let told = "";
  let code = NO_RESULT;
  for await (const report of serai.watch(jobId)) {
    const state = stateName(report.state);
    if (state !== told) say(`job ${jobId} is ${state}`);
    told = state;
    code = exitCode(report);
  }
  return code;
}

async function copyOutput(serai: Serai, jobId: string): Promise<void> {
  for await (const { stream, data } of serai.follow(jobId)) {
    const to = stream === OutputStream.STDERR ? process.stderr : process.stdout;
    if (!to.write(data)) await new Promise((resolve) => to.once("drain", resolve));
  }
}

function say(words: string): void {
  process.stderr.write(`serai: ${words}\n`);
}

const command = process.argv.slice(2);
if (command.length === 0) {
  process.stderr.write("usage: run-job PROGRAM [ARGUMENT...]\n");
  process.exitCode = NO_RESULT;
} else {
  try {
    process.exitCode = await run(command);
  } catch (error) {
    say(explain(error));
    process.exitCode = NO_RESULT;
  }
}
