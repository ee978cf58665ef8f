import { traceMetadata } from "@shaman/a2a-wire";
import type { EngineEvent, Failure } from "@shaman/engine";
import { newId, type JsonObject } from "@shaman/kernel";

type TaskIds = { readonly taskId: string; readonly contextId: string };

const agentMessage = (ids: TaskIds, text: string): JsonObject => ({
  messageId: newId("msg"),
  ...ids,
  role: "ROLE_AGENT",
  parts: [{ text }],
});

const statusUpdate = (ids: TaskIds, status: JsonObject, metadata?: JsonObject): JsonObject => ({
  statusUpdate: { ...ids, status, ...(metadata !== undefined && { metadata }) },
});

const failureMetadata = ({ code, message, retryable, retryAfterMs }: Failure): JsonObject =>
  traceMetadata({ kind: "failure", code, message, retryable, ...(retryAfterMs !== undefined && { retryAfterMs }) });

/** An engine's event as A2A's StreamResponse (A2A 1.0.1 §4.2), with our trace extension where A2A has no words. */
export const toStreamJson = (ids: TaskIds, event: EngineEvent): JsonObject => {
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
      return statusUpdate(ids, { state: "TASK_STATE_WORKING" }, traceMetadata({ kind: "step", step: event.step }));
    case "input_required":
      return statusUpdate(ids, { state: "TASK_STATE_INPUT_REQUIRED", message: agentMessage(ids, event.question) });
    case "completed":
      return statusUpdate(ids, { state: "TASK_STATE_COMPLETED" });
    case "failed": {
      const status = { state: "TASK_STATE_FAILED", message: agentMessage(ids, event.failure.publicMessage) };
      return statusUpdate(ids, status, failureMetadata(event.failure));
    }
  }
};
