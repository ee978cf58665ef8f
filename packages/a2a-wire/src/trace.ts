import type { JsonObject } from "@shaman/kernel";
import { parsedJsonObject, stepRecord } from "@shaman/runs";
import { z } from "zod";

/** The extension under whose key our own servers tell each other more than A2A has words for. */
export const TRACE_EXTENSION = "urn:shaman:a2a:trace:v1";

/** What stands in an event's metadata under `TRACE_EXTENSION`. */
export const traceRecord = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("step"), step: stepRecord }),
  /** With a FAILED status: what went wrong, and whether trying the task again may help. */
  z.object({
    kind: z.literal("failure"),
    code: z.string(),
    /** For operators; the caller reads the status message. */
    message: z.string(),
    retryable: z.boolean(),
    retryAfterMs: z.number().optional(),
  }),
]);
export type TraceRecord = z.output<typeof traceRecord>;

export const traceMetadata = (record: TraceRecord): JsonObject => ({
  [TRACE_EXTENSION]: parsedJsonObject.parse(record),
});
