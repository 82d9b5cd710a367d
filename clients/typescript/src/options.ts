/** What can be said about a connection and about a call. */

/** Gives the token of a call; asked before each one, so that a renewed token is taken up. */
export type TokenSource = () => string | Promise<string>;

/** Of a connection. */
export interface Options {
  /** "serai_…", made by `serai tokens create`. Left out or empty: none is sent, which only the server's own Unix socket takes. */
  token?: string | TokenSource;
  /** Longest time of a call with one answer, in milliseconds; 30,000 when left out. Streams end with their job. */
  callTimeoutMs?: number;
  /** For how long watching and following wait for a server that is away, from the first cut on, in milliseconds; 60,000 when left out. */
  patienceMs?: number;
  /** true: send the token also without TLS to another machine, where whoever is on the way can read it. */
  insecureToken?: boolean;
}

/** Of any call. */
export interface CallOptions {
  /** Aborting it ends the call. */
  signal?: AbortSignal;
}

/** Of a call that goes on when the connection was cut. */
export interface StreamOptions extends CallOptions {
  /** Called with what broke, once until there is an answer again. */
  onCut?: (error: unknown) => void;
}
