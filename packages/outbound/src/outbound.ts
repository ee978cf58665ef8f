import type { Result } from "@shaman/kernel";
import { Agent, buildConnector } from "undici";

import { addressLiteral } from "./address.ts";
import { checkGitUrl, type GitRemote } from "./git-url.ts";
import { createGuard, guardedLookup, type CheckedUrl, type Guard, type ResolveHost } from "./guard.ts";
import { outboundRefused } from "./outbound-error.ts";
import { createOutboundFetch, type OutboundFetch, type OutboundLimits } from "./outbound-fetch.ts";

export type OutboundOptions = {
  /** Loopback may be reached, also over http. */
  readonly allowLoopback: boolean;
  /** `*.localhost` means 127.0.0.1. */
  readonly mapLocalhost: boolean;
  /** http to any public host; default false. */
  readonly allowHttp?: boolean;
  /** Repositories below this folder may be named by `file://`; default none. */
  readonly gitFileRoot?: string;
  readonly limits?: Partial<OutboundLimits>;
  /** Another resolver than the system's. */
  readonly resolve?: ResolveHost;
};

/** The one way out for every request whose address a tenant can influence. */
export type Outbound = {
  readonly fetch: OutboundFetch;
  /** The same with other limits, for long streams or large downloads. */
  readonly fetchWith: (limits: Partial<OutboundLimits>) => OutboundFetch;
  /** Checks an address when it is registered; what is checked again when it is used. */
  readonly checkUrl: (url: string | URL) => Promise<Result<CheckedUrl>>;
  readonly checkGitUrl: (url: string) => Promise<Result<GitRemote>>;
  /** For clients that take a dispatcher: pins addresses, but leaves scheme, port and redirects to the client. */
  readonly agent: Agent;
  readonly close: () => Promise<void>;
};

const DEFAULT_LIMITS: OutboundLimits = { timeoutMs: 30_000, maxBytes: 10 * 1024 * 1024, maxRedirects: 5 };
const CONNECT_TIMEOUT_MS = 10_000;

const createGuardedAgent = (guard: Guard): Agent => {
  const connect = buildConnector({ lookup: guardedLookup(guard), timeout: CONNECT_TIMEOUT_MS, allowH2: false });
  return new Agent({
    allowH2: false,
    connect: (options, callback) => {
      // Sockets look up names only, so that an IP literal has to be stopped here.
      const literal = addressLiteral(options.hostname);
      if (literal !== undefined && !guard.isAllowedAddress(literal)) {
        callback(outboundRefused("address", `${options.hostname} is not a public address.`), null);
        return;
      }
      connect(options, callback);
    },
  });
};

/** Opens the guarded way out; `close` ends its connections. */
export const createOutbound = (options: OutboundOptions): Outbound => {
  const guard = createGuard({
    allowLoopback: options.allowLoopback,
    mapLocalhost: options.mapLocalhost,
    allowHttp: options.allowHttp ?? false,
    ...(options.resolve && { resolve: options.resolve }),
  });
  const agent = createGuardedAgent(guard);
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  return {
    fetch: createOutboundFetch({ guard, dispatcher: agent, limits }),
    fetchWith: (other) => createOutboundFetch({ guard, dispatcher: agent, limits: { ...limits, ...other } }),
    checkUrl: guard.checkUrl,
    checkGitUrl: (url) => checkGitUrl({ guard, fileRoot: options.gitFileRoot }, url),
    agent,
    close: () => agent.destroy(),
  };
};
