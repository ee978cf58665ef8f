import type { PlatformTool } from "@shaman/agents";
import { err, ok, userError, type AppError, type Json, type JsonObject, type Result } from "@shaman/kernel";
import type { ToolSpec } from "@shaman/llm";
import { contradicts, SNIFFED_BYTES } from "@shaman/storage";
import { z } from "zod";

/** What calling a platform tool comes to. `text` is what the model is told. */
export type PlatformOutcome =
  | { readonly kind: "artifact"; readonly artifact: WrittenArtifact; readonly text: string }
  | { readonly kind: "question"; readonly question: string }
  | { readonly kind: "share"; readonly name: string; readonly value: Json }
  /** Without a name: which values there are. */
  | { readonly kind: "recall"; readonly name: string | undefined };

export type WrittenArtifact = {
  readonly name: string;
  readonly description?: string;
  /** A2A Parts. */
  readonly parts: readonly JsonObject[];
};

/** More than any model writes in one answer, and what the servers pass on in one piece. */
const MAX_ARTIFACT_BYTES = 6_000_000;
/** A shared value of more than this is refused. */
const MAX_SHARED_BYTES = 65_536;

const writeArtifactInput = z.strictObject({
  name: z.string().min(1).max(200).describe("File name or title of the artifact, such as invoice-4711.md"),
  description: z.string().max(1_000).optional().describe("One sentence on what it is"),
  mediaType: z
    .string()
    .regex(/^[\w.+-]+\/[\w.+-]+$/)
    .optional()
    .describe(
      "Media type of the content, such as text/markdown or application/json; text/plain when left out, or application/octet-stream for base64",
    ),
  content: z
    .union([z.string(), z.record(z.string(), z.json()), z.array(z.json())])
    .describe("Text, JSON for application/json, or base64 of binary content"),
  encoding: z.enum(["text", "base64"]).default("text").describe("base64 when content is the base64 of binary content"),
});

const requestInputInput = z.strictObject({
  question: z.string().min(1).max(10_000).describe("What the caller has to tell or decide, in full sentences"),
});

const dataName = z
  .string()
  .regex(/^[A-Za-z0-9_.-]{1,64}$/, "must be 1 to 64 letters, digits and _ . -")
  .describe("Name of the value, such as order or shipping.address");

const runDataWriteInput = z.strictObject({
  name: dataName,
  value: z.json().describe("Any JSON value"),
});

const runDataReadInput = z.strictObject({
  name: dataName.optional().describe("Which value; leave it out to see which there are"),
});

export const specOf = (name: string, description: string, input: z.ZodType): ToolSpec => {
  const { $schema: _dialect, ...schema } = z.toJSONSchema(input, { io: "input" });
  return { name, description, inputSchema: z.record(z.string(), z.json()).parse(schema) };
};

/** The platform's own tools as the model is offered them. All of them are safe to repeat. */
export const PLATFORM_TOOL_SPECS: Readonly<Record<PlatformTool, ToolSpec>> = {
  write_artifact: specOf(
    "write_artifact",
    "Hands a finished document or data set to the caller as an artifact of this task.",
    writeArtifactInput,
  ),
  request_input: specOf(
    "request_input",
    "Asks the caller a question and waits for the answer, which may take days. Use it when you cannot go on without the caller.",
    requestInputInput,
  ),
  run_data_write: specOf(
    "run_data_write",
    "Shares a named value with all agents that work on this task. A value never changes: a name can be used once.",
    runDataWriteInput,
  ),
  run_data_read: specOf(
    "run_data_read",
    "Reads a value that an agent working on this task has shared, with the name of that agent.",
    runDataReadInput,
  ),
};

/** Runs a platform tool. An error is meant for the model: it says what was wrong with the input. */
export const runPlatformTool = (name: PlatformTool, input: Json): Result<PlatformOutcome> => {
  switch (name) {
    case "write_artifact":
      return writeArtifact(input);
    case "request_input": {
      const parsed = requestInputInput.safeParse(input);
      return parsed.success
        ? ok({ kind: "question", question: parsed.data.question })
        : err(invalidInput(parsed.error));
    }
    case "run_data_write": {
      const parsed = runDataWriteInput.safeParse(input);
      return parsed.success ? shareValue(parsed.data) : err(invalidInput(parsed.error));
    }
    case "run_data_read": {
      const parsed = runDataReadInput.safeParse(input);
      return parsed.success ? ok({ kind: "recall", name: parsed.data.name }) : err(invalidInput(parsed.error));
    }
  }
};

const shareValue = ({ name, value }: z.output<typeof runDataWriteInput>): Result<PlatformOutcome> => {
  const bytes = Buffer.byteLength(JSON.stringify(value));
  return bytes > MAX_SHARED_BYTES
    ? err(userError("tool_input_invalid", `The value has ${bytes} bytes; at most ${MAX_SHARED_BYTES} are allowed.`))
    : ok({ kind: "share", name, value });
};

const writeArtifact = (input: Json): Result<PlatformOutcome> => {
  const parsed = writeArtifactInput.safeParse(input);
  if (!parsed.success) return err(invalidInput(parsed.error));
  const { name, description } = parsed.data;
  const read = readContent(parsed.data);
  if (!read.ok) return read;
  const { part, bytes } = read.value;
  if (bytes.byteLength > MAX_ARTIFACT_BYTES) {
    return err(refused(`The artifact has ${bytes.byteLength} bytes; at most ${MAX_ARTIFACT_BYTES} are allowed.`));
  }
  const head = bytes.subarray(0, SNIFFED_BYTES);
  const wrong = contradicts({ head, mediaType: part.mediaType, fileName: name });
  if (wrong !== undefined) {
    return err(refused(`The content does not fit its media type: ${wrong}. Give it the media type that it has.`));
  }
  const artifact = { name, parts: [part], ...(description !== undefined && { description }) };
  return ok({ kind: "artifact", artifact, text: `The artifact ${name} was handed to the caller.` });
};

type Content = {
  /** An A2A Part. */
  readonly part: JsonObject & { readonly mediaType: string };
  readonly bytes: Buffer;
};

const readContent = (input: z.output<typeof writeArtifactInput>): Result<Content> => {
  const { name, mediaType, content, encoding } = input;
  if (typeof content !== "string") {
    const part = { data: content, mediaType: "application/json" };
    return encoding === "text"
      ? ok({ part, bytes: Buffer.from(JSON.stringify(content)) })
      : err(refused("Content with the encoding base64 must be a string."));
  }
  if (encoding === "text") {
    return ok({ part: { text: content, mediaType: mediaType ?? "text/plain" }, bytes: Buffer.from(content) });
  }
  const raw = content.replace(/\s+/g, "");
  const bytes = Buffer.from(raw, "base64");
  // Decoding passes over what is not base64; written again it shows.
  if (bytes.toString("base64") !== raw) {
    return err(refused("The content is not valid base64 (RFC 4648, with padding)."));
  }
  const part = { raw, mediaType: mediaType ?? "application/octet-stream", filename: name };
  return ok({ part, bytes });
};

const refused = (message: string): AppError => userError("tool_input_invalid", message);

export const invalidInput = (error: z.ZodError): ReturnType<typeof userError> => {
  const problems = error.issues.slice(0, 5).map((issue) => `${issue.path.join(".") || "input"}: ${issue.message}`);
  return userError("tool_input_invalid", `The input does not fit the tool's schema: ${problems.join("; ")}`);
};
