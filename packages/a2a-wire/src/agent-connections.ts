import { Agent, type Dispatcher } from "undici";

/** Open connections to internal servers, kept from call to call. */
export type AgentConnections = Dispatcher;

const HEADERS_TIMEOUT_MS = 30_000;

/** Opens up to this many connections to each server. An answer may take as long as its task does. */
export const openAgentConnections = (options: { readonly connections: number }): AgentConnections =>
  new Agent({ ...options, pipelining: 1, headersTimeout: HEADERS_TIMEOUT_MS, bodyTimeout: 0 });
