import { parsedJsonObject as object } from "@shaman/runs";
import { z } from "zod";
import { isObject } from "./proto-json.ts";
import { TRACE_EXTENSION, traceRecord } from "./trace.ts";

const metadata = z.looseObject({ [TRACE_EXTENSION]: traceRecord.optional() }).optional();

/** The names of A2A's states (§4.1.3) that an agent of ours sends. */
const AGENT_STATES = [
  "TASK_STATE_SUBMITTED",
  "TASK_STATE_WORKING",
  "TASK_STATE_COMPLETED",
  "TASK_STATE_FAILED",
  "TASK_STATE_CANCELED",
  "TASK_STATE_REJECTED",
  "TASK_STATE_INPUT_REQUIRED",
  "TASK_STATE_AUTH_REQUIRED",
] as const;

const statusUpdate = z.object({
  taskId: z.string(),
  status: z.object({ state: z.enum(AGENT_STATES), message: object.optional() }),
  metadata,
});

const artifactUpdate = z.object({
  taskId: z.string(),
  artifact: z.object({
    artifactId: z.string(),
    name: z.string().optional(),
    description: z.string().optional(),
    parts: z.array(object),
    metadata: object.optional(),
  }),
  append: z.boolean().default(false),
  lastChunk: z.boolean().default(false),
});

const withStatus = z.object({ result: z.object({ statusUpdate }) });
const withArtifact = z.object({ result: z.object({ artifactUpdate }) });
const withTask = z.object({ result: z.object({ task: z.object({ id: z.string() }) }) });
const withError = z.object({ error: z.object({ code: z.number(), message: z.string() }) });

type Response = z.output<typeof withStatus> | z.output<typeof withArtifact> | z.output<typeof withTask>;

/** A StreamResponse of an agent (A2A 1.0.1 §3.2.3), as far as we look at it. */
export type AgentEvent = Response["result"];
export type AgentStatus = z.output<typeof statusUpdate>;
export type AgentArtifact = z.output<typeof artifactUpdate>;

/**
 * Reads one JSON-RPC response inside a stream. What it has tells which it is: trying one shape after the other would cost
 * more than all else that is done with it. Throws a ZodError when it is none.
 */
export const parseEnvelope = (json: unknown): Response | z.output<typeof withError> => {
  const result = isObject(json) ? json.result : undefined;
  if (!isObject(result)) return withError.parse(json);
  if (result.statusUpdate !== undefined) return withStatus.parse(json);
  return result.artifactUpdate !== undefined ? withArtifact.parse(json) : withTask.parse(json);
};
