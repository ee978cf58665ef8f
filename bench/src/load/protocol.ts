import { z } from "zod";

/** Who calls: the host names the organization, the path the agent. */
const callerSchema = z.object({ host: z.string(), path: z.string(), token: z.string() });

/** Where a measurement goes. Several callers are used in turn, so that many organizations can share a load. */
const endpointSchema = z.object({
  origin: z.string(),
  callers: z.array(callerSchema).min(1),
  prompt: z.string(),
  /** Text that every right answer holds. */
  expect: z.string(),
});

const common = { endpoint: endpointSchema, warmUp: z.number().int().min(0), calls: z.number().int().min(1) };

/** One measurement, as the bench asks its load generator for it. */
export const loadJobSchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("closed"), ...common, concurrency: z.number().int().min(1) }),
  z.object({ kind: z.literal("open"), ...common, ratePerSecond: z.number().positive() }),
  z.object({ kind: z.literal("stream"), ...common, concurrency: z.number().int().min(1) }),
]);

const latencySchema = z.object({
  calls: z.number(),
  seconds: z.number(),
  perSecond: z.number(),
  p50Ms: z.number(),
  p99Ms: z.number(),
  meanMs: z.number(),
  maxMs: z.number(),
});

export const measurementSchema = latencySchema.extend({
  /** Open loop: how late the generator itself sent, 99th percentile; its own fault, and part of the latency. */
  sentLateP99Ms: z.number().optional(),
  /** Streams: artifact events and characters of text in each, and the time to the first event. */
  stream: z
    .object({
      minChunkEvents: z.number(),
      maxChunkEvents: z.number(),
      characters: z.number(),
      firstChunkP50Ms: z.number(),
    })
    .optional(),
});

export const loadReplySchema = z.discriminatedUnion("ok", [
  z.object({ ok: z.literal(true), measurement: measurementSchema }),
  z.object({ ok: z.literal(false), error: z.string() }),
]);

export type Endpoint = z.infer<typeof endpointSchema>;
export type Caller = z.infer<typeof callerSchema>;
export type LoadJob = z.infer<typeof loadJobSchema>;
export type Measurement = z.infer<typeof measurementSchema>;
export type LoadReply = z.infer<typeof loadReplySchema>;
