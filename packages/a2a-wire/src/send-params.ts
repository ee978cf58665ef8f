import { err, ok, userError, type AppError, type Json, type JsonObject, type Result } from "@shaman/kernel";
import type { FieldViolation } from "./errors.ts";
import { isNestedDeeper, isObject, readObject, type ObjectReader } from "./proto-json.ts";

export type MessageLimits = { readonly maxParts: number; readonly maxPartBytes: number };

/** A SendMessageRequest that was checked. `message` is the A2A Message in the one form we keep. */
export type SendParams = {
  readonly message: JsonObject;
  readonly messageId: string;
  readonly contextId: string | undefined;
  readonly taskId: string | undefined;
  readonly historyLength: number | undefined;
  readonly returnImmediately: boolean;
  readonly asksForPush: boolean;
  readonly tenant: string | undefined;
};

/** Media types our agents read. A text or data part without one is text/plain or application/json. */
export const INPUT_MODES: readonly string[] = [
  "text/plain",
  "text/markdown",
  "application/json",
  "image/png",
  "image/jpeg",
  "image/gif",
  "image/webp",
];

/** How deep data and metadata may be nested, as ProtoJSON readers have it. */
export const MAX_DEPTH = 100;

const MAX_ID_CHARS = 256;
const MAX_VIOLATIONS = 20;

/** The invalid-parameters error, naming every field that is wrong. */
export const invalidParams = (violations: readonly FieldViolation[]): AppError => {
  const [first] = violations;
  const named = first === undefined ? "" : `: ${first.field} ${first.description}`;
  return userError("invalid_params", `Invalid parameters${named}.`, {
    fieldViolations: violations.slice(0, MAX_VIOLATIONS),
  });
};

/**
 * Checks the parameters of SendMessage and SendStreamingMessage (A2A 1.0.1 §3.1.1, §4.1.4–4.1.6, §5.7).
 * Errors: `invalid_params` with every violation, `content_type_not_supported`.
 */
export const parseSendParams = (params: unknown, limits: MessageLimits): Result<SendParams> => {
  const violations: FieldViolation[] = [];
  const request = readObject(isObject(params) ? params : {}, "", violations);
  const rawMessage = request.object("message");
  if (rawMessage === undefined) return err(invalidParams([{ field: "message", description: "is missing" }]));

  const message = readObject(rawMessage, "message", violations);
  const messageId = idOf(message.string("messageId"));
  if (messageId === undefined) {
    message.fail("messageId", `must be a string of 1 to ${MAX_ID_CHARS} characters, none of them a control character`);
  }
  const role = message.raw("role");
  if (role !== "ROLE_USER" && role !== 1) message.fail("role", 'must be "ROLE_USER"');
  const contextId = message.string("contextId") || undefined;
  if (contextId !== undefined && idOf(contextId) === undefined) {
    message.fail("contextId", `must not have more than ${MAX_ID_CHARS} characters, nor control characters`);
  }
  const taskId = message.string("taskId") || undefined;
  const unsupported: string[] = [];
  const parts = parseParts(message.list("parts"), { limits, violations, unsupported });
  const metadata = metadataOf(message);
  const extensions = message.strings("extensions");
  const referenceTaskIds = message.strings("referenceTaskIds");

  const configuration = readObject(request.object("configuration") ?? {}, "configuration", violations);
  const historyLength = configuration.int32("historyLength");
  if (historyLength !== undefined && historyLength < 0) configuration.fail("historyLength", "must not be negative");
  configuration.strings("acceptedOutputModes");
  const returnImmediately = configuration.boolean("returnImmediately") ?? false;
  const push = configuration.object("taskPushNotificationConfig");
  request.object("metadata");
  const tenant = request.string("tenant") || undefined;

  if (violations.length > 0 || messageId === undefined) return err(invalidParams(violations));
  if (unsupported[0] !== undefined) return err(contentTypeNotSupported(unsupported[0]));
  return ok({
    message: {
      messageId,
      role: "ROLE_USER",
      parts,
      ...(metadata !== undefined && { metadata: toJsonObject(metadata) }),
      ...(extensions !== undefined && extensions.length > 0 && { extensions }),
      ...(referenceTaskIds !== undefined && referenceTaskIds.length > 0 && { referenceTaskIds }),
    },
    messageId,
    contextId,
    taskId,
    historyLength,
    returnImmediately,
    asksForPush: push !== undefined,
    tenant,
  });
};

const idOf = (text: string | undefined): string | undefined =>
  text !== undefined && text.length > 0 && text.length <= MAX_ID_CHARS && !/\p{Cc}/u.test(text) ? text : undefined;

const tooDeep = `must not be nested more than ${MAX_DEPTH} deep`;

const metadataOf = (reader: ObjectReader): Record<string, unknown> | undefined => {
  const metadata = reader.object("metadata");
  if (!isNestedDeeper(metadata, MAX_DEPTH)) return metadata;
  reader.fail("metadata", tooDeep);
  return undefined;
};

const contentTypeNotSupported = (mediaType: string): AppError =>
  userError(
    "content_type_not_supported",
    `Parts of media type ${mediaType.slice(0, 100)} are not supported. Send one of ${INPUT_MODES.join(", ")}.`,
  );

type PartChecks = {
  readonly limits: MessageLimits;
  readonly violations: FieldViolation[];
  /** Media types that no agent of ours reads. */
  readonly unsupported: string[];
};

const parseParts = (list: readonly unknown[] | undefined, checks: PartChecks): readonly JsonObject[] => {
  const { violations, limits } = checks;
  if (list === undefined || list.length === 0) {
    violations.push({ field: "message.parts", description: "must hold at least one part" });
    return [];
  }
  if (list.length > limits.maxParts) {
    violations.push({ field: "message.parts", description: `must not hold more than ${limits.maxParts} parts` });
    return [];
  }
  return list.map((part, index) => parsePart(part, `message.parts[${index}]`, checks));
};

const CONTENTS = ["text", "raw", "url", "data"] as const;

const parsePart = (value: unknown, path: string, checks: PartChecks): JsonObject => {
  const { violations, limits } = checks;
  if (!isObject(value)) {
    violations.push({ field: path, description: "must be an object" });
    return {};
  }
  const part = readObject(value, path, violations);
  // null counts as absent, but for data, which may hold any JSON value (ProtoJSON).
  const present = CONTENTS.filter((name) =>
    name === "data" ? "data" in value : value[name] !== undefined && value[name] !== null,
  );
  const [content] = present;
  if (content === undefined || present.length > 1) {
    violations.push({ field: path, description: "must hold exactly one of text, raw, url and data" });
    return {};
  }
  const mediaType = part.string("mediaType") || undefined;
  const filename = part.string("filename") || undefined;
  const metadata = metadataOf(part);
  if (content === "data" && isNestedDeeper(value.data, MAX_DEPTH)) {
    part.fail("data", tooDeep);
    return {};
  }
  const parsed = content === "data" ? toJson(value.data) : part.string(content);
  if (content === "raw" && typeof parsed === "string" && !isBase64(parsed)) part.fail("raw", "must be base64");
  if (parsed !== undefined && bytesOf(content, parsed) > limits.maxPartBytes) {
    part.fail(content, `must not be larger than ${limits.maxPartBytes} bytes`);
  }
  if (mediaType !== undefined && !isReadable(mediaType)) checks.unsupported.push(mediaType);
  return {
    [content]: parsed ?? null,
    ...(mediaType !== undefined && { mediaType }),
    ...(filename !== undefined && { filename }),
    ...(metadata !== undefined && { metadata: toJsonObject(metadata) }),
  };
};

const isReadable = (mediaType: string): boolean =>
  INPUT_MODES.includes(mediaType.split(";")[0]?.trim().toLowerCase() ?? "");

const isBase64 = (text: string): boolean =>
  /^(?:[A-Za-z0-9+/]*|[A-Za-z0-9_-]*)={0,2}$/.test(text) && text.replace(/=+$/, "").length % 4 !== 1;

/** Of what the part holds: a file's own bytes, not those of its base64. */
const bytesOf = (content: (typeof CONTENTS)[number], value: Json): number => {
  if (typeof value !== "string") return Buffer.byteLength(JSON.stringify(value));
  return content === "raw" ? Buffer.byteLength(value, "base64") : Buffer.byteLength(value);
};

/** The values come out of JSON.parse, so they are JSON; the compiler only sees that they are unknown. */
const isJson = (value: unknown): value is Json => value !== undefined;
const isJsonObject = (value: object): value is JsonObject => isJson(value);
const toJson = (value: unknown): Json => (isJson(value) ? value : null);
const toJsonObject = (value: object): JsonObject => (isJsonObject(value) ? value : {});

/** The parameters of GetTask and CancelTask. Errors: `invalid_params`. A2A 1.0.1 §3.1.3, §3.1.5. */
export const parseTaskParams = (
  params: unknown,
): Result<{ readonly id: string; readonly historyLength: number | undefined; readonly tenant: string | undefined }> => {
  const violations: FieldViolation[] = [];
  const request = readObject(isObject(params) ? params : {}, "", violations);
  const id = request.string("id") ?? "";
  if (id === "") request.fail("id", "is missing");
  const historyLength = request.int32("historyLength");
  if (historyLength !== undefined && historyLength < 0) request.fail("historyLength", "must not be negative");
  const tenant = request.string("tenant") || undefined;
  return violations.length > 0 ? err(invalidParams(violations)) : ok({ id, historyLength, tenant });
};
