import type { ProtocolVersion } from "@shaman/external";
import type { Json, JsonObject } from "@shaman/kernel";
import { parsedJson, type TaskState } from "@shaman/runs";
import { isObject } from "../proto-json.ts";
import { answerInvalid, answerTooLarge } from "./external-error.ts";
import type { ForeignArtifact, ForeignEvent, ForeignMessage, ForeignStatus, ForeignTask } from "./wire-shapes.ts";

/**
 * The one place where what outside agents write becomes A2A 1.0's shapes: 1.0's ProtoJSON, 0.3's TypeScript form (`kind`,
 * lower-case states) and 0.3's ProtoJSON (`content`, `TASK_STATE_CANCELLED`), in camelCase and in snake_case. Unknown
 * fields are ignored, an unknown state counts as working. Everything throws `external_answer_invalid`.
 */

const MAX_PARTS = 20_000;
const MAX_LIST = 1_000;
const MAX_ID_CHARS = 512;
const MAX_NAME_CHARS = 200;
const MAX_DESCRIPTION_CHARS = 1_000;

type Fields = Readonly<Record<string, unknown>>;

const protoName = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** A field under its JSON name or its proto name; null is absent. */
const field = (source: Fields, name: string): unknown => source[name] ?? source[protoName(name)] ?? undefined;

const fieldsOf = (value: unknown, what: string): Fields => {
  if (isObject(value)) return value;
  throw answerInvalid(`${what} is missing or no object`);
};

const idOf = (value: unknown, what: string): string => {
  if (typeof value === "string" && value !== "" && value.length <= MAX_ID_CHARS && !/\p{Cc}/u.test(value)) return value;
  throw answerInvalid(`${what} is missing or no usable id`);
};

const optionalId = (value: unknown, what: string): string | undefined =>
  value === undefined || value === "" ? undefined : idOf(value, what);

const textOf = (value: unknown, max: number): string | undefined =>
  typeof value === "string" && value !== "" ? value.slice(0, max) : undefined;

const listOf = (value: unknown, what: string, max: number): readonly unknown[] => {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw answerInvalid(`${what} is no list`);
  if (value.length > max) throw answerTooLarge(`${what} holds more than ${max}`);
  return value;
};

const STATES: ReadonlyMap<string, TaskState> = new Map([
  ["SUBMITTED", "submitted"],
  ["WORKING", "working"],
  ["COMPLETED", "completed"],
  ["FAILED", "failed"],
  ["CANCELED", "canceled"],
  ["CANCELLED", "canceled"],
  ["REJECTED", "rejected"],
  ["INPUT_REQUIRED", "input_required"],
  ["AUTH_REQUIRED", "auth_required"],
]);

/** `TASK_STATE_INPUT_REQUIRED` and `input-required` alike. A state nobody knows is one in which it still goes on. */
const stateOf = (value: unknown): TaskState => {
  if (typeof value !== "string") throw answerInvalid("a task's state is missing");
  const name = value.replace(/^TASK_STATE_/, "").replaceAll("-", "_");
  return STATES.get(name.toUpperCase()) ?? "working";
};

const BASE64 = /^(?:[A-Za-z0-9+/]*|[A-Za-z0-9_-]*)={0,2}$/;

/** A file of 0.3 in any of its spellings. */
const fileContent = (file: Fields): JsonObject => {
  const bytes = field(file, "bytes") ?? field(file, "fileWithBytes");
  const uri = field(file, "uri") ?? field(file, "fileWithUri");
  const mediaType = textOf(field(file, "mimeType") ?? field(file, "mediaType"), MAX_NAME_CHARS);
  const filename = textOf(field(file, "name") ?? field(file, "filename"), MAX_NAME_CHARS);
  const about = { ...(mediaType !== undefined && { mediaType }), ...(filename !== undefined && { filename }) };
  if (typeof bytes === "string" && typeof uri !== "string") return { raw: base64(bytes), ...about };
  if (typeof uri === "string" && typeof bytes !== "string") return { url: uri, ...about };
  throw answerInvalid("a file part holds neither bytes nor an address, or both");
};

const base64 = (text: string): string => {
  if (BASE64.test(text)) return text;
  throw answerInvalid("the bytes of a part are not base64");
};

const jsonOf = (value: unknown): Json => parsedJson.parse(value ?? null);

/** 0.3's proto, whose parts have no `kind`, wraps data once more: `{"data": {"data": {…}}}`. */
const dataOf = (part: Fields, isOld: boolean): Json => {
  const { data } = part;
  const isWrapped =
    isOld && part.kind === undefined && isObject(data) && isObject(data.data) && Object.keys(data).length === 1;
  return jsonOf(isWrapped ? data.data : data);
};

const contentOf = (part: Fields, isOld: boolean): JsonObject => {
  if (isObject(part.file)) return fileContent(part.file);
  const present = (["text", "raw", "url"] as const).filter((name) => typeof part[name] === "string");
  const hasData = "data" in part;
  if (present.length + (hasData ? 1 : 0) !== 1) throw answerInvalid("a part holds no content, or more than one");
  if (hasData) return { data: dataOf(part, isOld) };
  if (typeof part.raw === "string") return { raw: base64(part.raw) };
  return typeof part.text === "string" ? { text: part.text } : { url: jsonOf(part.url) };
};

const readPart = (value: unknown, isOld: boolean): JsonObject => {
  const part = fieldsOf(value, "a part");
  const mediaType = textOf(field(part, "mediaType"), MAX_NAME_CHARS);
  const filename = textOf(field(part, "filename"), MAX_NAME_CHARS);
  return {
    ...contentOf(part, isOld),
    ...(mediaType !== undefined && { mediaType }),
    ...(filename !== undefined && { filename }),
  };
};

/** `parts`, or `content` as 0.3's proto calls a message's. */
const readParts = (source: Fields, isOld: boolean): readonly JsonObject[] => {
  const given = isOld ? (field(source, "parts") ?? field(source, "content")) : field(source, "parts");
  return listOf(given, "parts", MAX_PARTS).map((part) => readPart(part, isOld));
};

const readMessage = (value: unknown, isOld: boolean): ForeignMessage => {
  const message = fieldsOf(value, "a message");
  const contextId = optionalId(field(message, "contextId"), "a message's contextId");
  const taskId = optionalId(field(message, "taskId"), "a message's taskId");
  const isUser = /^(?:ROLE_)?USER$/i.test(typeof message.role === "string" ? message.role : "");
  return {
    messageId: idOf(field(message, "messageId"), "a message's id"),
    role: isUser ? "ROLE_USER" : "ROLE_AGENT",
    parts: readParts(message, isOld),
    ...(contextId !== undefined && { contextId }),
    ...(taskId !== undefined && { taskId }),
  };
};

const readStatus = (value: unknown, isOld: boolean): ForeignStatus => {
  const status = fieldsOf(value, "a status");
  // 0.3's proto calls it `update` where no JSON name is followed.
  const message = field(status, "message") ?? field(status, "update");
  return { state: stateOf(status.state), ...(message !== undefined && { message: readMessage(message, isOld) }) };
};

const readArtifact = (value: unknown, isOld: boolean): ForeignArtifact => {
  const artifact = fieldsOf(value, "an artifact");
  const name = textOf(artifact.name, MAX_NAME_CHARS);
  const description = textOf(artifact.description, MAX_DESCRIPTION_CHARS);
  return {
    artifactId: idOf(field(artifact, "artifactId"), "an artifact's id"),
    parts: readParts(artifact, isOld),
    ...(name !== undefined && { name }),
    ...(description !== undefined && { description }),
  };
};

const taskOf = (value: unknown, isOld: boolean): ForeignTask => {
  const task = fieldsOf(value, "the task");
  const contextId = optionalId(field(task, "contextId"), "a task's contextId");
  return {
    id: idOf(task.id, "a task's id"),
    status: readStatus(task.status, isOld),
    artifacts: listOf(field(task, "artifacts"), "artifacts", MAX_LIST).map((one) => readArtifact(one, isOld)),
    history: listOf(field(task, "history"), "history", MAX_LIST).map((one) => readMessage(one, isOld)),
    ...(contextId !== undefined && { contextId }),
  };
};

const readEventIds = (event: Fields): { readonly taskId: string; readonly contextId?: string } => {
  const contextId = optionalId(field(event, "contextId"), "an event's contextId");
  return { taskId: idOf(field(event, "taskId"), "an event's taskId"), ...(contextId !== undefined && { contextId }) };
};

const READERS = {
  task: (value: unknown, isOld: boolean): ForeignEvent => ({ kind: "task", task: taskOf(value, isOld) }),
  message: (value: unknown, isOld: boolean): ForeignEvent => ({ kind: "message", message: readMessage(value, isOld) }),
  "status-update": (value: unknown, isOld: boolean): ForeignEvent => {
    const event = fieldsOf(value, "a status update");
    return { kind: "status", ...readEventIds(event), status: readStatus(event.status, isOld) };
  },
  "artifact-update": (value: unknown, isOld: boolean): ForeignEvent => {
    const event = fieldsOf(value, "an artifact update");
    const artifact = readArtifact(event.artifact, isOld);
    const [append, lastChunk] = [event.append === true, field(event, "lastChunk") === true];
    return { kind: "artifact", ...readEventIds(event), artifact, append, lastChunk };
  },
} as const;
type Kind = keyof typeof READERS;

const isKind = (text: string): text is Kind => Object.hasOwn(READERS, text);

const WRAPPERS: readonly (readonly [string, Kind])[] = [
  ["task", "task"],
  ["message", "message"],
  ["msg", "message"],
  ["statusUpdate", "status-update"],
  ["artifactUpdate", "artifact-update"],
];

/** A Task, as an interface of this version writes it. */
export const readTask = (value: unknown, version: ProtocolVersion): ForeignTask => taskOf(value, version === "0.3");

/** A SendMessageResponse or StreamResponse: bare with `kind` as 0.3 has it, else wrapped, with exactly one member. */
export const readEvent = (value: unknown, version: ProtocolVersion): ForeignEvent => {
  const isOld = version === "0.3";
  const event = fieldsOf(value, "the result");
  if (typeof event.kind === "string") {
    if (isKind(event.kind)) return READERS[event.kind](event, isOld);
    throw answerInvalid("it is of an unknown kind");
  }
  const found = WRAPPERS.filter(([name]) => field(event, name) !== undefined);
  const [only] = found;
  if (only === undefined || found.length > 1) {
    throw answerInvalid("it holds none, or more than one, of task, message, statusUpdate and artifactUpdate");
  }
  return READERS[only[1]](field(event, only[0]), isOld);
};
