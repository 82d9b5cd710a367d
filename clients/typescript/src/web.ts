/** From browsers, over gRPC-Web; also from programs that have `fetch` and nothing else. */

import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { authenticated, Serai } from "./client.js";
import type { Options } from "./options.js";

export * from "./index.js";

/**
 * A connection to `address`, the front door's "https://host:port". A page of another origin needs that origin among those that the front
 * door allows. Throws for an address that cannot be used.
 */
export function connect(address: string, options: Options = {}): Serai {
  const url = new URL(address);
  const transport = createGrpcWebTransport({ baseUrl: address, interceptors: authenticated(url, options) });
  return new Serai(transport, options);
}
