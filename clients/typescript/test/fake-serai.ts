/** A Serai with one token and jobs whose life a test decides, over real HTTP: gRPC on HTTP/2 and gRPC-Web on HTTP/1.1. */

import { once } from "node:events";
import { createServer as createHttpServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createHttp2Server, type Http2Server, type Http2ServerRequest, type Http2ServerResponse } from "node:http2";
import type { AddressInfo, Socket } from "node:net";
import { Code, ConnectError, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { JobState } from "@serai/client/gen/serai/jobs/v1/job_pb";
import { JobsService, OutputStream, type FollowOffset, type FollowRequest } from "@serai/client/gen/serai/jobs/v1/jobs_service_pb";

export const TOKEN = "serai_fake_token";
const PIECE_BYTES = 1_000;

type Request = IncomingMessage | Http2ServerRequest;
type Response = ServerResponse | Http2ServerResponse;

export class FakeSerai {
  /** Ids of those that it knows. */
  readonly jobs = new Set<string>();
  /** What each job's rank 0 writes to stdout, all of it at once. */
  output = new Uint8Array();
  /** Of every job, one after the other; the last one is where it stays. */
  states: JobState[] = [JobState.IN_QUEUE, JobState.RUNNING, JobState.SUCCESS];
  /** Tokens as they came, one for each call. */
  readonly tokens: (string | null)[] = [];
  /** Offsets of each follow, as they came. */
  readonly follows: FollowOffset[][] = [];
  watches = 0;
  /** Every connection breaks after so many more pieces of output, or reports; then the next number counts. */
  readonly breaks: number[] = [];
  /** Streams are open for so many milliseconds, tell nothing, and break; those after the last number tell what there is. */
  readonly quietMs: number[] = [];
  /** Bytes of output that are left out before each stream but the first. */
  leftOut = 0;
  /** Calls that are answered UNAVAILABLE before any works. */
  unavailable = 0;
  /** true: calls with one answer get none. */
  silent = false;
  private readonly sockets = new Set<Socket>();
  private readonly servers: [Http2Server, Server];

  private constructor() {
    const routed = connectNodeAdapter({ routes: (router) => this.routes(router) });
    const handler = (request: Request, response: Response) => {
      if (!this.answeredAtTheDoor(request, response)) routed(request, response);
    };
    this.servers = [createHttp2Server(handler), createHttpServer(handler)];
  }

  /** What connect's own server does not do: an error without headers before it, and headers long before anything else. */
  private answeredAtTheDoor({ url = "", headers }: Request, response: Response): boolean {
    if (this.unavailable > 0) {
      this.unavailable -= 1;
      this.tokens.push(headers.authorization ?? null);
      response.writeHead(503);
      response.end();
      return true;
    }
    const quietMs = /\/(Watch|Follow)$/.test(url) ? this.quietMs.shift() : undefined;
    if (quietMs === undefined) return false;
    response.writeHead(200, { "content-type": headers["content-type"] });
    if ("flushHeaders" in response) response.flushHeaders();
    setTimeout(() => this.cut(), quietMs);
    return true;
  }

  static async start(): Promise<FakeSerai> {
    const fake = new FakeSerai();
    for (const server of fake.servers) {
      server.on("connection", (socket: Socket) => {
        fake.sockets.add(socket);
        socket.on("close", () => fake.sockets.delete(socket));
      });
      server.listen(0, "127.0.0.1");
      await once(server, "listening");
    }
    return fake;
  }

  get address(): string {
    return `http://127.0.0.1:${(this.servers[0].address() as AddressInfo).port}`;
  }

  get webAddress(): string {
    return `http://127.0.0.1:${(this.servers[1].address() as AddressInfo).port}`;
  }

  stop(): void {
    for (const server of this.servers) server.close();
    this.cut();
  }

  cut(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  private routes(router: ConnectRouter): void {
    router.service(JobsService, {
      submit: async ({ submissionId }, context) => {
        await this.answered(context);
        this.jobs.add(submissionId);
        return { jobId: submissionId, state: JobState.IN_QUEUE };
      },
      get: async ({ jobId }, context) => {
        await this.answered(context);
        this.find(jobId);
        return { job: { id: jobId, state: this.states.at(-1) } };
      },
      watch: (request, context) => this.watch(request.jobId, context),
      follow: (request, context) => this.follow(request, context),
    });
  }

  private find(jobId: string): void {
    if (!this.jobs.has(jobId)) throw new ConnectError(`job ${jobId} is not known`, Code.NotFound);
  }

  private async answered(context: HandlerContext): Promise<void> {
    this.admitted(context);
    if (this.silent) await once(context.signal, "abort");
  }

  private admitted(context: HandlerContext): void {
    const token = context.requestHeader.get("authorization");
    this.tokens.push(token);
    if (token !== `Bearer ${TOKEN}`) throw new ConnectError("this token is not known", Code.Unauthenticated);
  }

  /** Counts one piece; true = the connection is broken now. */
  private broken(): boolean {
    if (this.breaks[0] === undefined) return false;
    if (this.breaks[0] > 0) {
      this.breaks[0] -= 1;
      return false;
    }
    this.breaks.shift();
    this.cut();
    return true;
  }

  private async *watch(jobId: string, context: HandlerContext) {
    this.admitted(context);
    this.find(jobId);
    // The state of now comes first, as from a server that was not away for long.
    const from = Math.min(this.watches++, this.states.length - 1);
    for (const state of this.states.slice(from)) {
      if (this.broken()) return;
      yield { job: { id: jobId, state, ageMs: BigInt(this.watches) } };
      await passed();
    }
  }

  private async *follow(request: FollowRequest, context: HandlerContext) {
    this.admitted(context);
    this.find(request.jobId);
    this.follows.push(request.offsets);
    const begin = Number(request.offsets.find((at) => at.rank === 0 && at.stream === OutputStream.STDOUT)?.offset ?? 0n);
    const leftOut = this.follows.length > 1 ? this.leftOut : 0;
    for (let at = begin + leftOut; at < this.output.length; at += PIECE_BYTES) {
      if (this.broken()) return;
      yield { rank: 0, stream: OutputStream.STDOUT, offset: BigInt(at), data: this.output.subarray(at, at + PIECE_BYTES) };
      await passed();
    }
  }
}

/** Lets what was written leave for the client. */
function passed(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
