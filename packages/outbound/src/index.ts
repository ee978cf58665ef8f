export { conceal } from "./conceal.ts";
export type { GitRemote } from "./git-url.ts";
export type { CheckedUrl, ResolveHost } from "./guard.ts";
export { outboundConfig } from "./outbound-config.ts";
export type { OutboundFetch, OutboundLimits } from "./outbound-fetch.ts";
export { createOutbound, type Outbound, type OutboundOptions } from "./outbound.ts";
