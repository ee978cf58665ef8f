import { traceMetadata, type AgentEvent, type TraceRecord } from "@shaman/a2a-wire";
import type { EngineEvent, Failure } from "@shaman/engine";
import { newId, type JsonObject } from "@shaman/kernel";
import { parsedJsonObject, splitChunk } from "@shaman/runs";

type TaskIds = { readonly taskId: string; readonly contextId: string };

const agentMessage = (ids: TaskIds, parts: readonly JsonObject[]): JsonObject => ({
  messageId: newId("msg"),
  ...ids,
  role: "ROLE_AGENT",
  parts,
});

const statusUpdate = (ids: TaskIds, status: JsonObject, metadata?: JsonObject): JsonObject => ({
  statusUpdate: { ...ids, status, ...(metadata !== undefined && { metadata }) },
});

const failureFields = ({ code, message, retryable, retryAfterMs }: Failure) => ({
  code,
  message,
  retryable,
  ...(retryAfterMs !== undefined && { retryAfterMs }),
});

const traced = (ids: TaskIds, record: TraceRecord): JsonObject =>
  statusUpdate(ids, { state: "TASK_STATE_WORKING" }, traceMetadata(record));

/** An event of a task below this one: what it says of its own task stays, the context is the same for all of them. */
const passedUp = ({ contextId }: TaskIds, event: AgentEvent): JsonObject => {
  if ("task" in event) return parsedJsonObject.parse({ task: { contextId, ...event.task } });
  return parsedJsonObject.parse(
    "statusUpdate" in event
      ? { statusUpdate: { contextId, ...event.statusUpdate } }
      : { artifactUpdate: { contextId, ...event.artifactUpdate } },
  );
};

/**
 * An engine's event as A2A's StreamResponses (A2A 1.0.1 §4.2), with our trace extension where A2A has no words. A large
 * artifact becomes several, so that neither side holds it in one event.
 */
export const toStreamJson = (ids: TaskIds, event: EngineEvent): readonly JsonObject[] =>
  event.type === "artifact"
    ? splitChunk(event.chunk).map((chunk) => toJson(ids, { type: "artifact", chunk }))
    : [toJson(ids, event)];

const toJson = (ids: TaskIds, event: EngineEvent): JsonObject => {
  switch (event.type) {
    case "artifact": {
      const { append, lastChunk, artifactId, name, description, parts, metadata } = event.chunk;
      const artifact = {
        artifactId,
        parts,
        ...(name !== undefined && { name }),
        ...(description !== undefined && { description }),
        ...(metadata !== undefined && { metadata }),
      };
      return { artifactUpdate: { ...ids, artifact, append, lastChunk } };
    }
    case "step":
      return traced(ids, { kind: "step", step: event.step });
    case "usage":
      return traced(ids, { kind: "usage", position: event.position, usage: event.usage });
    case "notice":
      return traced(ids, { kind: "notice", notice: event.notice });
    case "data":
      return traced(ids, { kind: "data", position: event.position, name: event.name, value: event.value });
    case "commit":
      return traced(ids, { kind: "commit" });
    case "child":
      return passedUp(ids, event.event);
    case "input_required": {
      const status = { state: "TASK_STATE_INPUT_REQUIRED", message: agentMessage(ids, event.parts) };
      return statusUpdate(ids, status, traceMetadata({ kind: "waits", waitsFor: event.waitsFor }));
    }
    case "retry_later":
      return traced(ids, { kind: "retry", ...failureFields(event.failure) });
    case "completed": {
      const metadata = event.result === undefined ? undefined : traceMetadata({ kind: "result", ...event.result });
      return statusUpdate(ids, { state: "TASK_STATE_COMPLETED" }, metadata);
    }
    case "failed": {
      const message = agentMessage(ids, [{ text: event.failure.publicMessage }]);
      const record = {
        kind: "failure" as const,
        ...failureFields(event.failure),
        ...(event.left !== undefined && { left: event.left }),
      };
      return statusUpdate(ids, { state: "TASK_STATE_FAILED", message }, traceMetadata(record));
    }
  }
};
