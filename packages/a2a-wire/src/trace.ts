import type { JsonObject } from "@shaman/kernel";
import { noticePayload, parsedJson, parsedJsonObject, stepRecord, stepUsage, waitsFor } from "@shaman/runs";
import { z } from "zod";

/** The extension under whose key our own servers tell each other more than A2A has words for. */
export const TRACE_EXTENSION = "urn:shaman:a2a:trace:v1";

/** What a called agent has left of the share it was given; it goes back to its caller. */
const budgetLeft = z.object({
  steps: z.int().min(0),
  toolCalls: z.int().min(0),
  tokens: z.int().min(0),
  costUsd: z.number().min(0),
});
export type BudgetLeft = z.output<typeof budgetLeft>;

const failureFields = {
  code: z.string(),
  /** For operators; the caller reads the status message. */
  message: z.string(),
  retryable: z.boolean(),
  retryAfterMs: z.number().optional(),
};

/** What stands in an event's metadata under `TRACE_EXTENSION`. */
export const traceRecord = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("step"), step: stepRecord }),
  /** Of a model call that gave no step: what it cost, and the place of the step that it should have been. */
  z.object({ kind: z.literal("usage"), position: z.int().min(1), usage: stepUsage }),
  /** With a FAILED status: what went wrong, and whether trying the task again may help. */
  z.object({ kind: z.literal("failure"), ...failureFields, left: budgetLeft.optional() }),
  /** Of a called agent: it failed in a way that may pass, and the whole run is to go on later from what is recorded. */
  z.object({ kind: z.literal("retry"), ...failureFields }),
  /** With an INPUT_REQUIRED status: which step of the tree waits. */
  z.object({ kind: z.literal("waits"), waitsFor }),
  /** With a COMPLETED status of a called agent: its answer as text. */
  z.object({ kind: z.literal("result"), text: z.string(), left: budgetLeft }),
  z.object({ kind: z.literal("notice"), notice: noticePayload }),
  /** A value that the agent shares with the others of its run. */
  z.object({ kind: z.literal("data"), position: z.int(), name: z.string(), value: parsedJson }),
  /** The agent waits until everything it sent so far is committed. */
  z.object({ kind: z.literal("commit") }),
]);
export type TraceRecord = z.output<typeof traceRecord>;

export const traceMetadata = (record: TraceRecord): JsonObject => ({
  [TRACE_EXTENSION]: parsedJsonObject.parse(record),
});
