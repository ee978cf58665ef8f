import {
  Role,
  TaskState as SdkState,
  type Artifact,
  type Message,
  type Part,
  type StreamResponse,
  type Task,
} from "@a2a-js/sdk";
import type { JsonObject } from "@shaman/kernel";
import type { ArtifactPayload, RecordedEvent, StatusPayload, TaskState, TaskView } from "@shaman/runs";
import { TRACE_EXTENSION } from "./trace.ts";

const SDK_STATE: Readonly<Record<TaskState, SdkState>> = {
  submitted: SdkState.TASK_STATE_SUBMITTED,
  working: SdkState.TASK_STATE_WORKING,
  completed: SdkState.TASK_STATE_COMPLETED,
  failed: SdkState.TASK_STATE_FAILED,
  canceled: SdkState.TASK_STATE_CANCELED,
  rejected: SdkState.TASK_STATE_REJECTED,
  input_required: SdkState.TASK_STATE_INPUT_REQUIRED,
  auth_required: SdkState.TASK_STATE_AUTH_REQUIRED,
};

const text = (value: unknown): string => (typeof value === "string" ? value : "");
const object = (value: unknown): Record<string, unknown> | undefined =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : undefined;
const strings = (value: unknown): string[] =>
  Array.isArray(value) ? value.filter((one) => typeof one === "string") : [];

const contentOf = (part: JsonObject): Part["content"] => {
  if (typeof part.text === "string") return { $case: "text", value: part.text };
  if (typeof part.raw === "string") return { $case: "raw", value: Buffer.from(part.raw, "base64") };
  if (typeof part.url === "string") return { $case: "url", value: part.url };
  return { $case: "data", value: part.data };
};

export const toSdkPart = (part: JsonObject): Part => ({
  content: contentOf(part),
  metadata: object(part.metadata),
  filename: text(part.filename),
  mediaType: text(part.mediaType),
});

/** A Message as we keep it, for the SDK. */
export const toSdkMessage = (message: JsonObject): Message => ({
  messageId: text(message.messageId),
  contextId: text(message.contextId),
  taskId: text(message.taskId),
  role: message.role === "ROLE_AGENT" ? Role.ROLE_AGENT : Role.ROLE_USER,
  parts: Array.isArray(message.parts)
    ? message.parts.map((part) => toSdkPart(object(part) === undefined ? {} : part))
    : [],
  metadata: object(message.metadata),
  extensions: strings(message.extensions),
  referenceTaskIds: strings(message.referenceTaskIds),
});

/** A task as A2A shows it. `contextId` and the status timestamp are always set. */
export const toSdkTask = (view: TaskView): Task => ({
  id: view.taskId,
  contextId: view.contextId,
  status: {
    state: SDK_STATE[view.state],
    message: view.statusMessage === undefined ? undefined : toSdkMessage(view.statusMessage),
    timestamp: view.statusAt.toISOString(),
  },
  artifacts: view.artifacts.map((artifact): Artifact => ({
    artifactId: artifact.artifactId,
    name: artifact.name ?? "",
    description: artifact.description ?? "",
    parts: artifact.parts.map(toSdkPart),
    metadata: object(artifact.metadata),
    extensions: [],
  })),
  history: (view.history ?? []).map(toSdkMessage),
  metadata: undefined,
});

type EventIds = { readonly taskId: string; readonly contextId: string };

const statusEvent = (ids: EventIds, payload: StatusPayload): StreamResponse => ({
  payload: {
    $case: "statusUpdate",
    value: {
      ...ids,
      status: {
        state: SDK_STATE[payload.state],
        message: payload.message === undefined ? undefined : toSdkMessage(payload.message),
        timestamp: payload.timestamp,
      },
      metadata: undefined,
    },
  },
});

const artifactEvent = (ids: EventIds, payload: ArtifactPayload): StreamResponse => ({
  payload: {
    $case: "artifactUpdate",
    value: {
      ...ids,
      artifact: {
        artifactId: payload.artifactId,
        name: payload.name ?? "",
        description: payload.description ?? "",
        parts: payload.parts.map(toSdkPart),
        metadata: object(payload.metadata),
        extensions: [],
      },
      append: payload.append,
      lastChunk: payload.lastChunk,
      metadata: undefined,
    },
  },
});

/**
 * A recorded event as its task's caller may see it. Steps, notices, shared values and retries are ours, and shown only to callers that activated
 * the trace extension, as a WORKING status with the record in its metadata.
 */
export const toStreamResponse = (
  event: RecordedEvent,
  task: { readonly taskId: string; readonly contextId: string; readonly traced: boolean },
): StreamResponse | undefined => {
  if (event.taskId !== task.taskId) return undefined;
  const ids = { taskId: task.taskId, contextId: task.contextId };
  switch (event.type) {
    case "task.status":
      return statusEvent(ids, event.payload);
    case "task.artifact":
      return artifactEvent(ids, event.payload);
    case "step":
    case "notice":
    case "data":
    case "run.retry": {
      if (!task.traced) return undefined;
      const record = traceOf(event);
      const metadata = { [TRACE_EXTENSION]: record };
      const status = { state: SdkState.TASK_STATE_WORKING, message: undefined, timestamp: undefined };
      return { payload: { $case: "statusUpdate", value: { ...ids, status, metadata } } };
    }
  }
};

type TracedEvent = Exclude<RecordedEvent, { readonly type: "task.status" | "task.artifact" }>;

const traceOf = (event: TracedEvent): Record<string, unknown> => {
  switch (event.type) {
    case "step":
      return { kind: "step", step: event.payload };
    case "notice":
      return { kind: "notice", notice: event.payload };
    case "data":
      return { kind: "data", data: event.payload };
    case "run.retry":
      return { kind: "retry", retry: event.payload };
  }
};
