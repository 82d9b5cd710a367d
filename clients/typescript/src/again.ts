/** Tries a call again while its connection is cut, with growing waits, and gives up when the server is away for too long. */

import { ConnectError } from "@connectrpc/connect";
import { isCut } from "./errors.js";
import type { StreamOptions } from "./options.js";

const FIRST_WAIT_MS = 200;
const LONGEST_WAIT_MS = 5_000;

/** One series of tries. Time is that of a monotonic clock. */
export class Tries {
  private readonly patienceMs: number;
  private readonly options: StreamOptions;
  private failures = 0;
  private awaySince = 0;

  /** `patienceMs`: longest time that the server may be away, from the first cut on. */
  constructor(patienceMs: number, options: StreamOptions) {
    this.patienceMs = patienceMs;
    this.options = options;
  }

  /** The stream is open, or an answer came: whatever breaks from now on breaks anew, however long it is until then. */
  readonly succeeded = (): void => {
    this.failures = 0;
  };

  /** Waits before the next try. Throws `error` when it is no cut or the server is away for too long, and when the caller aborted. */
  async failed(error: unknown): Promise<void> {
    const { signal, onCut } = this.options;
    if (signal?.aborted || !isCut(error)) throw error;
    const now = performance.now();
    if (this.failures === 0) {
      this.awaySince = now;
      onCut?.(error);
    }
    const waitMs = Math.min(FIRST_WAIT_MS * 2 ** Math.min(this.failures, 10), LONGEST_WAIT_MS);
    if (now - this.awaySince > this.patienceMs) throw error;
    this.failures += 1;
    await pause(waitMs, signal);
  }
}

/** Rejects with the signal's reason as a ConnectError when it is aborted. */
function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const aborted = () => {
      clearTimeout(timer);
      reject(ConnectError.from(signal?.reason));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", aborted);
      resolve();
    }, ms);
    signal?.addEventListener("abort", aborted, { once: true });
  });
}
