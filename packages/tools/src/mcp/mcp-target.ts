import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js";
import type { JsonObject, Result } from "@shaman/kernel";

/** A server reached over HTTP. Headers and tokens are for the origin of `url` and are sent nowhere else. */
export type HttpTarget = {
  readonly kind: "streamable-http" | "sse";
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** The access token, another one when `refused` is what the server did not take. Absent: none is used. */
  readonly accessToken?: (options: {
    readonly refused?: string;
    readonly signal: AbortSignal;
  }) => Promise<Result<string>>;
};

/** A program of the operator's catalogue. */
export type CatalogueTarget = {
  readonly kind: "catalogue";
  readonly orgId: string;
  readonly runId: string;
  readonly catalogue: string;
  readonly parameters: JsonObject;
};

export type McpTarget = HttpTarget | CatalogueTarget;

/**
 * Makes a transport of the MCP SDK that was not started yet. It calls `onclose` when the other side has gone, so that
 * nothing waits for it, and `close` leaves nothing of it behind. An error says in a sentence why there is none.
 */
export type OpenTransport<T extends McpTarget> = (target: T) => Promise<Result<Transport>>;

export type McpTransports = {
  readonly http: OpenTransport<HttpTarget>;
  /** Absent where this machine runs no programs for tenants. */
  readonly catalogue?: OpenTransport<CatalogueTarget>;
};
