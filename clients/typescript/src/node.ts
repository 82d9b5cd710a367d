/** From Node, over gRPC on HTTP/2. */

import { readFileSync } from "node:fs";
import { connect as connectSocket } from "node:net";
import type { SecureClientSessionOptions, ClientSessionOptions } from "node:http2";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { authenticated, Serai } from "./client.js";
import type { Options } from "./options.js";

export * from "./index.js";

/** Of a connection from Node. */
export interface NodeOptions extends Options {
  /** File with the certificates (PEM) that the server's may be signed by; left out or empty = those that Node trusts. */
  caFile?: string;
  /** Files with a client certificate (PEM) and its key, where the server knows callers by certificate. */
  certificateFile?: string;
  keyFile?: string;
}

/** What the server sends at most, and what it takes from tools at most. */
const LIMITS = { readMaxBytes: 64 * 1024 * 1024, writeMaxBytes: 16 * 1024 * 1024 };

/** How often a connection in use is asked whether it is still there. gRPC servers refuse to be asked more than every five minutes. */
const PING_MS = 360_000;
const PING_TIMEOUT_MS = 20_000;

/**
 * A connection to `address`: "https://host:port", "http://host:port" without TLS, or "unix:/path" of a server's Unix socket. It is made at
 * the first call, and again after a cut. Throws for an address or file that cannot be used.
 */
export function connect(address: string, options: NodeOptions = {}): Serai {
  const { baseUrl, session, local } = place(address);
  if (!baseUrl.startsWith("https:") && (options.caFile || options.certificateFile)) {
    throw new TypeError("certificates are for https:// addresses only");
  }
  const tls: SecureClientSessionOptions = {
    ca: read(options.caFile),
    cert: read(options.certificateFile),
    key: read(options.keyFile),
  };
  const interceptors = authenticated(new URL(baseUrl), options, local);
  const sessionManager = new Http2SessionManager(
    baseUrl,
    { pingIntervalMs: PING_MS, pingTimeoutMs: PING_TIMEOUT_MS },
    { ...session, ...tls },
  );
  const transport = createGrpcTransport({ baseUrl, interceptors, sessionManager, ...LIMITS });
  return new Serai(transport, options, () => sessionManager.abort());
}

function read(file: string | undefined): Buffer | undefined {
  return !file ? undefined : readFileSync(file);
}

function place(address: string): { baseUrl: string; session: ClientSessionOptions; local: boolean } {
  if (address.startsWith("unix:")) {
    const path = address.slice("unix:".length);
    return { baseUrl: "http://localhost", session: { createConnection: () => connectSocket(path) }, local: true };
  }
  if (!/^https?:\/\/[^/]/.test(address)) {
    throw new TypeError(`${JSON.stringify(address)} is not an address: expected https://host:port, http://host:port or unix:/path`);
  }
  return { baseUrl: address, session: {}, local: false };
}
