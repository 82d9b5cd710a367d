/**
 * Makes the message that `JobsService.Create` takes. UCloud resolves an application of its store into a job; a tool that submits by itself
 * has none, so the program and its arguments stand in the job as words of an application of its own.
 */

import { create } from "@bufbuild/protobuf";
import type { SimpleDuration } from "./gen/serai/core/v1/resources_pb.js";
import { SimpleDurationSchema } from "./gen/serai/core/v1/resources_pb.js";
import type { InvocationParameter } from "./gen/serai/jobs/v1/application_pb.js";
import { ApplicationType, InvocationParameterSchema, ToolBackend } from "./gen/serai/jobs/v1/application_pb.js";
import type { Job } from "./gen/serai/jobs/v1/job_pb.js";
import { JobSchema, JobState } from "./gen/serai/jobs/v1/job_pb.js";

const NAMED = { name: "tool", version: "1" };

/** What to run, where and for whom. */
export interface JobOptions {
  /** The program and its arguments, one by one: no shell takes them apart. */
  command: readonly string[];
  /** The container's image, like "acme/batch:1.0.0", where jobs run in containers. */
  image?: string;
  /** One of the provider's machine types. */
  product: { id: string; category: string; provider: string };
  /** Whose job it is: a UCloud username. Its output goes to their drive. */
  owner: string;
  /** Id of the project that it belongs to; left out = the owner's personal workspace. */
  project?: string;
  /** 1 to 64 letters, digits, '-' and '_', never used before; left out = a new one by chance. */
  id?: string;
  /** A name of this one job, for people. */
  name?: string;
  /** How many run the program at the same time; left out = 1. */
  replicas?: number;
  /** Longest time in RUNNING, in whole seconds; left out = no limit. */
  timeLimitS?: number;
  /** Of the program. */
  environment?: Readonly<Record<string, string>>;
}

/** A job that runs one program; anything else of the message can be set on it. Throws RangeError for a command of no words and a time limit that is no number of whole seconds. */
export function newJob(options: JobOptions): Job {
  const { command, image, product, owner, replicas = 1 } = options;
  if (command.length === 0) throw new RangeError("command: expected the program and its arguments, found no words");
  return create(JobSchema, {
    id: options.id ?? `tool-${crypto.randomUUID()}`,
    owner: { createdBy: owner, project: options.project },
    createdAt: BigInt(Date.now()),
    specification: {
      application: NAMED,
      product,
      replicas,
      name: options.name,
      timeAllocation: options.timeLimitS === undefined ? undefined : duration(options.timeLimitS),
    },
    status: {
      state: JobState.IN_QUEUE,
      resolvedApplication: {
        metadata: { ...NAMED, title: "Tool" },
        invocation: {
          tool: { ...NAMED, tool: { description: { info: NAMED, backend: ToolBackend.DOCKER, image } } },
          invocation: command.map(word),
          environment: Object.fromEntries(Object.entries(options.environment ?? {}).map(([name, value]) => [name, word(value)])),
          applicationType: ApplicationType.BATCH,
          allowMultiNode: replicas > 1,
        },
      },
    },
  });
}

function word(text: string): InvocationParameter {
  return create(InvocationParameterSchema, { parameter: { case: "word", value: { word: text } } });
}

function duration(seconds: number): SimpleDuration {
  if (!Number.isInteger(seconds) || seconds < 1) throw new RangeError(`timeLimitS: expected 1 or more whole seconds, found ${seconds}`);
  const minutes = Math.floor(seconds / 60);
  return create(SimpleDurationSchema, { hours: Math.floor(minutes / 60), minutes: minutes % 60, seconds: seconds % 60 });
}
