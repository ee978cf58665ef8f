import { inStoredOrder, toJsonb } from "@shaman/db";
import { randomText, type JsonObject } from "@shaman/kernel";
import { z } from "zod";
import type { AcceptInput } from "./accept.ts";
import { parsedJsonObject, parsedJsonText } from "./json-schema.ts";
import type { LeasedRun } from "./lease.ts";
import type { Offer } from "./offers.ts";

/** A NOTIFY of PostgreSQL carries less than 8,000 bytes. */
const MAX_BYTES = 7_500;

const assignedRun = z.object({
  orgId: z.string(),
  runId: z.string(),
  rootTaskId: z.string(),
  contextId: z.string(),
  agent: z.string(),
  repositoryId: z.string(),
  commit: z.string(),
  principal: z.string(),
  apiKeyId: z.string().nullable(),
  userId: z.string().nullable(),
  traceparent: z.string().nullable(),
  holder: z.string(),
  announced: z.boolean(),
  priority: z.int(),
  /** When it was accepted, and when it must have ended: milliseconds since 1970. */
  at: z.int(),
  deadline: z.int(),
  limits: parsedJsonObject,
  message: parsedJsonObject,
});

const assignedRunText = parsedJsonText.pipe(assignedRun);

/** A new run under a worker's lease, and what the worker is told of it. */
export type Assignment = {
  readonly offer: Offer;
  readonly holder: string;
  readonly deadline: Date;
  readonly text: string;
};

/** Gives the run that is being accepted to the worker of this offer; nothing where it is too large to be told of. */
export const assignmentOf = (
  offer: Offer,
  input: AcceptInput,
  run: Pick<LeasedRun, "announced"> & {
    readonly runId: string;
    readonly taskId: string;
    readonly contextId: string;
    readonly at: Date;
    readonly message: JsonObject;
  },
): Assignment | undefined => {
  const holder = `${offer.worker}:${randomText(10)}`;
  const deadline = new Date(run.at.getTime() + input.limits.timeoutSeconds * 1_000);
  const told: z.input<typeof assignedRun> = {
    orgId: input.orgId,
    runId: run.runId,
    rootTaskId: run.taskId,
    contextId: run.contextId,
    agent: input.agent,
    repositoryId: input.repositoryId,
    commit: input.commit,
    principal: input.principal,
    apiKeyId: input.apiKeyId,
    userId: input.userId,
    traceparent: input.traceparent ?? null,
    holder,
    announced: run.announced,
    priority: input.priority,
    at: run.at.getTime(),
    deadline: deadline.getTime(),
    limits: input.limits,
    message: run.message,
  };
  // Cleaned as the row is.
  const text = toJsonb(told);
  return Buffer.byteLength(text) <= MAX_BYTES ? { offer, holder, deadline, text } : undefined;
};

/** A run that was assigned. Whoever hears of it late must ask whether it is still theirs. */
export type AssignedRun = { readonly run: LeasedRun; readonly acceptedAt: Date };

/** The run as a first claim would give it to its worker; nothing where the text cannot be read. */
export const readAssignedRun = (text: string): AssignedRun | undefined => {
  const { data } = assignedRunText.safeParse(text);
  if (data === undefined) return undefined;
  const { message, at, deadline, ...told } = data;
  const run: LeasedRun = {
    ...told,
    epoch: 1,
    wake: 1,
    deadline: new Date(deadline),
    attempts: 0,
    barrenClaims: 1,
    used: { steps: 0, tokens: 0, costUsd: 0 },
    taskState: "submitted",
    waitsFor: undefined,
    // A run whose spending is limited is never assigned.
    spendLimits: { organization: null, key: null },
    messages: [inStoredOrder(message)],
    commands: [],
  };
  return { run, acceptedAt: new Date(at) };
};
