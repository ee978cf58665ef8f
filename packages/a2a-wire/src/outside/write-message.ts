import type { Json, JsonObject } from "@shaman/kernel";
import type { OutgoingMessage } from "./wire-shapes.ts";

const about = (message: OutgoingMessage): JsonObject => ({
  ...(message.metadata !== undefined && { metadata: message.metadata }),
  ...(message.contextId !== undefined && { contextId: message.contextId }),
  ...(message.taskId !== undefined && { taskId: message.taskId }),
});

/** A Message of A2A 1.0. */
export const writeMessage = (message: OutgoingMessage): JsonObject => ({
  messageId: message.messageId,
  role: "ROLE_USER",
  parts: message.parts,
  ...about(message),
});

/** 0.3 knows objects only as data. */
const dataObject = (data: Json | undefined): Json =>
  typeof data === "object" && data !== null && !Array.isArray(data) ? data : { value: data ?? null };

const metadataOf = (part: JsonObject): JsonObject => (part.metadata === undefined ? {} : { metadata: part.metadata });

const partOld = (part: JsonObject): JsonObject => {
  const file = {
    ...(part.filename !== undefined && { name: part.filename }),
    ...(part.mediaType !== undefined && { mimeType: part.mediaType }),
  };
  if (part.text !== undefined) return { kind: "text", text: part.text, ...metadataOf(part) };
  if (part.raw !== undefined) return { kind: "file", file: { bytes: part.raw, ...file }, ...metadataOf(part) };
  if (part.url !== undefined) return { kind: "file", file: { uri: part.url, ...file }, ...metadataOf(part) };
  return { kind: "data", data: dataObject(part.data), ...metadataOf(part) };
};

/** A Message of 0.3 as its JSON-RPC has it. */
export const writeMessageOld = (message: OutgoingMessage): JsonObject => ({
  kind: "message",
  messageId: message.messageId,
  role: "user",
  parts: message.parts.map(partOld),
  ...about(message),
});

const partOldProto = (part: JsonObject): JsonObject => {
  const file = part.mediaType === undefined ? {} : { mimeType: part.mediaType };
  if (part.text !== undefined) return { text: part.text };
  if (part.raw !== undefined) return { file: { fileWithBytes: part.raw, ...file } };
  if (part.url !== undefined) return { file: { fileWithUri: part.url, ...file } };
  return { data: { data: dataObject(part.data) } };
};

/** A Message of 0.3 as its proto has it, which its HTTP binding speaks. */
export const writeMessageOldProto = (message: OutgoingMessage): JsonObject => ({
  messageId: message.messageId,
  role: "ROLE_USER",
  content: message.parts.map(partOldProto),
  ...about(message),
});
