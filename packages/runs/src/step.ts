import { z } from "zod";
import { parsedJson } from "./json-schema.ts";

const STEP_KINDS = ["model", "tool", "call", "input", "approval"] as const;
const STEP_STATES = ["started", "done", "failed", "unknown"] as const;

/** Token usage of a model step. `costUsd` is null where the model's price is not known. */
export const stepUsage = z.object({
  model: z.string(),
  inputTokens: z.int().min(0),
  outputTokens: z.int().min(0),
  cachedInputTokens: z.int().min(0),
  costUsd: z.number().nullable(),
});
export type StepUsage = z.output<typeof stepUsage>;

/** One step of a task: what the engine did, what it gave, and how a later attempt recognizes it. */
export const stepRecord = z.object({
  /** From 1 within the task. */
  position: z.int().min(1),
  kind: z.enum(STEP_KINDS),
  /** Model, tool or agent. */
  name: z.string(),
  /** SHA-256 of everything that decided the step; a replay with another one has diverged. */
  inputHash: z.string(),
  state: z.enum(STEP_STATES),
  input: parsedJson.optional(),
  output: parsedJson.optional(),
  usage: stepUsage.optional(),
  /** Content of the media that a tool's output names by their hashes. It is kept beside the step, while the run goes on. */
  media: z.array(z.object({ sha256: z.string(), base64: z.string() })).optional(),
  /** Of a call: the task that the called agent works on. */
  childTaskId: z.string().optional(),
  /** Of a tool: the MCP server it belongs to. Of a call of an outside agent: what that agent is registered as, or where it is. */
  server: z.string().optional(),
  /** How long a tool or a call took. */
  durationMs: z.int().min(0).optional(),
});
export type StepRecord = z.output<typeof stepRecord>;
