import { z } from "zod";

export const TOKEN_AUDIENCE = "shaman-internal-server";
/** The worker signs under the outer side's name, the internal server signs for the children it calls. */
export const TOKEN_ISSUERS = ["shaman-public-server", "shaman-internal-server"] as const;
export type TokenIssuer = (typeof TOKEN_ISSUERS)[number];

export const MAX_TOKEN_LIFETIME_SECONDS = 300;
/** Of a token that names the server it is for, which remembers it that long. */
export const NONCE_LIFETIME_SECONDS = 30;
export const MAX_CLOCK_SKEW_SECONDS = 5;

const id = z.string().min(1).max(128);
const count = z.int().min(0);

const initiator = z.object({ type: z.enum(["api_key", "user", "operator", "system"]), id, userId: id.optional() });

/** What this task and everything below it may still use up. */
const budget = z.object({
  steps: count,
  toolCalls: count,
  tokens: count,
  costUsd: z.number().min(0),
  /** How many calls deep it may still go. */
  depth: count,
  /** Whose spend limit the cost is what is left of; absent, the cost is the run's own limit. */
  costLimit: z.enum(["organization", "key"]).optional(),
});

/** Workflow context only: no user credential and no API key ever travels here. */
export const tokenContext = z.object({
  /** The organization's id. */
  tenantId: id,
  runId: id,
  taskId: id,
  parentTaskId: id.optional(),
  depth: count.max(64),
  initiator,
  /** The lease under which the run is worked on: internal's own writes carry it. */
  leaseEpoch: count,
  /** Who holds it: epoch and holder together are the fence (docs/decisions/015-one-wait-for-the-disk-a-call.md). */
  leaseHolder: z.string().min(1).max(256),
  /** How often the run may still be tried again after a failure that may pass. */
  attemptsLeft: count,
  /** The agent's full name, `repository:path/Name`. */
  agent: z.string().min(1).max(512),
  commit: z.string().min(1).max(128),
  /** Milliseconds since 1970. */
  deadline: count,
  budget,
  /** Full names of the agents that led here, the root first; depth and cycles are decided by it. */
  ancestors: z.array(z.string().min(1).max(512)).max(64),
  traceparent: z.string().max(128).optional(),
  /** The run may not be on record yet: nothing but preparations before it is. */
  announced: z.boolean().optional(),
});
export type TokenContext = z.output<typeof tokenContext>;

export const tokenClaims = z.object({
  iss: z.enum(TOKEN_ISSUERS),
  aud: z.literal(TOKEN_AUDIENCE),
  iat: z.int(),
  exp: z.int(),
  /** Nobody asks for a token that is good only later. */
  nbf: z.undefined().optional(),
  jti: z.string().min(16).max(64),
  /** The server that alone may take it, by the nonce it told; else any may, once among all. */
  nonce: z.string().min(16).max(64).optional(),
  htm: z.string().min(1).max(16),
  htu: z.string().startsWith("/").max(2048),
  bh: z.string().length(43),
  context: tokenContext,
});
export type TokenClaims = z.output<typeof tokenClaims>;

/** The one request a token is good for. */
export type BoundRequest = {
  readonly method: string;
  /** The raw path as sent, without query. */
  readonly path: string;
  /** The raw bytes as sent. */
  readonly body: string | Uint8Array;
};
