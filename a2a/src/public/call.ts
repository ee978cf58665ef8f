import type { SendParams } from "@shaman/a2a-wire";
import type { Principal } from "@shaman/access";
import type { ResolvedAgent } from "@shaman/agents";
import type { AppError } from "@shaman/kernel";
import type { Organization } from "@shaman/tenancy";

/** Who called, before it is known what for. */
export type Caller = {
  readonly organization: Organization;
  readonly principal: Principal;
  readonly requestId: string;
  readonly ip: string;
  readonly traceparent: string;
  /** Aborted when the caller is gone. */
  readonly signal: AbortSignal;
};

/** One call of an agent: what the request handler needs beside the SDK's parameters. */
export type Call = Caller & {
  readonly agent: ResolvedAgent;
  readonly protocol: "jsonrpc" | "http+json";
  /** Whether the caller activated our trace extension. */
  readonly traced: boolean;
  /** The checked parameters of a send; the SDK's own reading of them is laxer. */
  readonly send?: SendParams;
  readonly historyLength?: number;
  readonly idempotencyKey?: string;
  /** What the handler threw, for our encoder; the SDK's knows fewer codes and details. */
  failure?: AppError;
};
