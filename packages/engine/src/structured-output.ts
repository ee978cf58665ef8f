import { compileJsonSchema } from "@shaman/json-schema";
import type { Json, JsonObject } from "@shaman/kernel";
import type { ModelMessage } from "@shaman/llm";
import { parsedJsonObject, type ArtifactPayload } from "@shaman/runs";
import { z } from "zod";
import type { Failure } from "./engine-event.ts";

/** How often a model may mend an answer that does not fit its agent's `output`. */
const OUTPUT_REPAIRS = 1;

const MAX_ANSWER_BYTES = 256 * 1024;
const MAX_QUOTED_CHARS = 2_000;

export type OutputVerdict =
  /** The agent has no `output`: its answer is the text. */
  | { readonly kind: "free" }
  | { readonly kind: "fits"; readonly value: Json }
  /** Say this to the model as the user, and let it answer once more: a model step of its own. */
  | { readonly kind: "repair"; readonly message: ModelMessage }
  | { readonly kind: "invalid"; readonly failure: Failure };

const json = z.json();

/** Some models put JSON into a fence though they were asked not to. */
const FENCED = /^```(?:json)?[ \t]*\n([\s\S]*?)\n```$/;

const parse = (text: string): { readonly value: Json } | { readonly problem: string } => {
  const tooLarge = Buffer.byteLength(text) > MAX_ANSWER_BYTES;
  if (tooLarge) return { problem: `the answer is larger than ${MAX_ANSWER_BYTES / 1024} kB` };
  const trimmed = text.trim();
  try {
    return { value: json.parse(JSON.parse(FENCED.exec(trimmed)?.[1] ?? trimmed)) };
  } catch (thrown) {
    const reason = thrown instanceof SyntaxError ? thrown.message : "it is nested too deeply";
    return { problem: `the answer is not one JSON value: ${reason.slice(0, 200)}` };
  }
};

const repair = (problems: readonly string[], schema: Json): ModelMessage => ({
  role: "user",
  text: [
    "Your answer does not have the form that is required of it:",
    ...problems.map((problem) => `- ${problem}`),
    `Answer again with one JSON value that fits this JSON Schema, and nothing else: ${JSON.stringify(schema)}`,
  ].join("\n"),
});

const misfits = (schema: Json, value: Json): readonly string[] => {
  const validate = compileJsonSchema(schema);
  return validate.ok ? validate.value(value) : [`the agent's output schema ${validate.error}`];
};

/**
 * Judges the final text of an agent (an answer that calls no tool) by the agent's `output`. Depends on its arguments alone,
 * so that a replay comes to the same verdicts. `repairs` counts how often this task has been asked to mend its answer.
 */
export const judgeOutput = (
  schema: Json | undefined,
  answer: { readonly text: string; readonly repairs: number },
): OutputVerdict => {
  if (schema === undefined) return { kind: "free" };
  const parsed = parse(answer.text);
  const problems = "problem" in parsed ? [parsed.problem] : misfits(schema, parsed.value);
  if ("value" in parsed && problems.length === 0) return { kind: "fits", value: parsed.value };
  if (answer.repairs < OUTPUT_REPAIRS) return { kind: "repair", message: repair(problems, schema) };
  const why = problems.join("; ").slice(0, MAX_QUOTED_CHARS);
  return {
    kind: "invalid",
    failure: {
      code: "output_invalid",
      message: `The model's answer does not fit the agent's output schema, after it was asked to mend it: ${why}`,
      publicMessage:
        "The agent's answer does not have the form that it promises. Try again, or tell whoever keeps the agent.",
      retryable: false,
    },
  };
};

/** The schema as providers are asked for it. One that is a mere `true` or `false` tells them nothing. */
export const outputSchemaOf = (schema: Json | undefined): JsonObject | undefined =>
  parsedJsonObject.safeParse(schema).data;

/** The checked result of a task as data, beside the text that the model wrote. `position` is the step that gave it. */
export const outputArtifact = (position: number, value: Json): ArtifactPayload => ({
  artifactId: `output-${position}`,
  name: "output",
  parts: [{ data: value, mediaType: "application/json" }],
  append: false,
  lastChunk: true,
});

/** Takes back the text of an answer that has to be mended: whoever reads the finished task finds the good one only. */
export const withdrawnArtifact = (artifactId: string): ArtifactPayload => ({
  artifactId,
  name: "response",
  parts: [{ text: "" }],
  append: false,
  lastChunk: true,
});
