/** A connection to a Serai, and what is done on it. */

import { Code, ConnectError, createClient, type Client, type Interceptor, type Transport } from "@connectrpc/connect";
import { follow, type FollowOptions } from "./follow.js";
import { EventsService } from "./gen/serai/events/v1/events_service_pb.js";
import { JobsService, type FollowResponse, type JobReport } from "./gen/serai/jobs/v1/jobs_service_pb.js";
import { LicenseServersService } from "./gen/serai/licenses/v1/license_servers_service_pb.js";
import { LicensesService } from "./gen/serai/licenses/v1/licenses_service_pb.js";
import { SessionsService } from "./gen/serai/sessions/v1/sessions_service_pb.js";
import type { CallOptions, Options, StreamOptions, TokenSource } from "./options.js";
import { watch } from "./watch.js";

const CALL_TIMEOUT_MS = 30_000;
const PATIENCE_MS = 60_000;

/** Errors of its calls are ConnectErrors: `code`, `rawMessage` for people, and `reasonOf(error)`. */
export class Serai {
  /** Every method of the API, typed. */
  readonly jobs: Client<typeof JobsService>;
  readonly events: Client<typeof EventsService>;
  readonly licenses: Client<typeof LicensesService>;
  readonly licenseServers: Client<typeof LicenseServersService>;
  readonly sessions: Client<typeof SessionsService>;
  /** For a client of any other service: `createClient(Service, serai.transport)`. */
  readonly transport: Transport;
  private readonly patienceMs: number;
  private readonly end: () => void;
  private readonly closing = new AbortController();

  /** Made by `connect` of `@serai/client/node` or `@serai/client/web`; `end` closes what is below `transport`. */
  constructor(transport: Transport, options: Options, end: () => void = () => undefined) {
    this.transport = limited(transport, options.callTimeoutMs ?? CALL_TIMEOUT_MS);
    this.patienceMs = options.patienceMs ?? PATIENCE_MS;
    this.end = end;
    this.jobs = createClient(JobsService, this.transport);
    this.events = createClient(EventsService, this.transport);
    this.licenses = createClient(LicensesService, this.transport);
    this.licenseServers = createClient(LicenseServersService, this.transport);
    this.sessions = createClient(SessionsService, this.transport);
  }

  /** The job's report now and after each change, until it is final. */
  watch(jobId: string, options: StreamOptions = {}): AsyncGenerator<JobReport, void, undefined> {
    return watch(this.jobs, this.patienceMs, jobId, this.untilClosed(options));
  }

  /** The job's final report, once it is over. */
  async untilFinal(jobId: string, options: StreamOptions = {}): Promise<JobReport> {
    let last: JobReport | undefined;
    for await (const report of this.watch(jobId, options)) last = report;
    if (last === undefined) throw new Error(`job ${jobId} ended without a report`);
    return last;
  }

  /** The job's output from its first byte, or from `options.places`, to its end. */
  follow(jobId: string, options: FollowOptions = {}): AsyncGenerator<FollowResponse, void, undefined> {
    return follow(this.jobs, this.patienceMs, jobId, this.untilClosed(options));
  }

  /** Asks for the job to be stopped; resolves when that is stored. One that is over already stays as it is. */
  async stop(jobId: string, options: CallOptions = {}): Promise<void> {
    await this.jobs.terminate({ jobIds: [jobId] }, { signal: options.signal });
  }

  /** Ends the connection and every call that is still open on it. */
  close(): void {
    this.closing.abort(new ConnectError("this client was closed", Code.Canceled));
    this.end();
  }

  private untilClosed<T extends CallOptions>(options: T): T {
    const { signal } = this.closing;
    return { ...options, signal: options.signal ? AbortSignal.any([options.signal, signal]) : signal };
  }
}

/** Puts the token on each call. Throws where it would go over the network in the clear. */
export function authenticated(url: URL, options: Options, local = false): Interceptor[] {
  const { token } = options;
  if (token === undefined || token === "") return [];
  if (url.protocol !== "https:" && !local && !isLoopback(url.hostname) && options.insecureToken !== true) {
    throw new TypeError(`the token would go to ${url.host} without TLS; use an https:// address, or insecureToken on a network you trust`);
  }
  const source: TokenSource = typeof token === "function" ? token : () => token;
  return [
    (next) => async (request) => {
      request.header.set("authorization", `Bearer ${await source()}`);
      return next(request);
    },
  ];
}

/** Not names below localhost: whoever answers for names may send them anywhere. */
function isLoopback(host: string): boolean {
  return host === "localhost" || host === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(host);
}

/** A transport whose calls with one answer end after `callTimeoutMs` unless the call says otherwise; streams are not touched. */
function limited(transport: Transport, callTimeoutMs: number): Transport {
  return {
    unary: (method, signal, timeoutMs, header, input, values) =>
      transport.unary(method, signal, timeoutMs ?? callTimeoutMs, header, input, values),
    stream: (method, signal, timeoutMs, header, input, values) => transport.stream(method, signal, timeoutMs, header, input, values),
  };
}
