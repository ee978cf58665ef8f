import { z } from "zod";
import { parsedJsonObject } from "./json-schema.ts";
import { taskState } from "./states.ts";

/** What a tool or an outside agent tells on its way, or what an agent's tools lack. */
export const noticePayload = z.object({
  /** `text`: `message` is text that an outside agent writes, of its `artifact`. */
  kind: z.enum(["progress", "log", "problem", "text"]),
  /** Of the step that the tool runs in. */
  position: z.int().optional(),
  tool: z.string().optional(),
  server: z.string().optional(),
  message: z.string().optional(),
  level: z.string().optional(),
  progress: z.number().optional(),
  total: z.number().optional(),
  artifact: z.string().optional(),
  /** Whether the text continues what came before of the artifact. */
  append: z.boolean().optional(),
});
export type NoticePayload = z.output<typeof noticePayload>;

/** What happened in a run, in the order it happened. The only place that lists the types. */
export const runEvent = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("task.status"),
    payload: z.object({
      state: taskState,
      /** An A2A Message of the agent that explains the state. */
      message: parsedJsonObject.optional(),
      /** ISO 8601, UTC. */
      timestamp: z.string(),
    }),
  }),
  z.object({
    type: z.literal("task.artifact"),
    payload: z.object({
      artifactId: z.string(),
      name: z.string().optional(),
      description: z.string().optional(),
      /** A2A Parts. */
      parts: z.array(parsedJsonObject),
      metadata: parsedJsonObject.optional(),
      append: z.boolean(),
      lastChunk: z.boolean(),
    }),
  }),
  z.object({
    type: z.literal("step"),
    payload: z.object({
      position: z.int(),
      kind: z.enum(["model", "tool", "call", "input", "approval"]),
      name: z.string(),
      state: z.enum(["started", "done", "failed", "unknown"]),
      /** Of a call: the task of the called agent. */
      childTaskId: z.string().optional(),
      /** Of a tool: its MCP server. */
      server: z.string().optional(),
      durationMs: z.int().optional(),
      /** Model steps only. */
      model: z.string().optional(),
      inputTokens: z.int().optional(),
      outputTokens: z.int().optional(),
      /** Null where no price is known. */
      costUsd: z.number().nullable().optional(),
    }),
  }),
  z.object({ type: z.literal("notice"), payload: noticePayload }),
  z.object({
    type: z.literal("data"),
    payload: z.object({ name: z.string(), agent: z.string() }),
  }),
  z.object({
    type: z.literal("run.retry"),
    payload: z.object({ attempt: z.int(), code: z.string(), message: z.string(), retryAt: z.string() }),
  }),
]);
export type RunEvent = z.output<typeof runEvent>;
export type StatusPayload = Extract<RunEvent, { type: "task.status" }>["payload"];
export type ArtifactPayload = Extract<RunEvent, { type: "task.artifact" }>["payload"];

/** An event as recorded. `seq` counts from 1 within the run without a gap. */
export type RecordedEvent = RunEvent & { readonly seq: number; readonly taskId: string };
