import { err, isJsonObject, ok, type Json, type JsonObject, type Result } from "@shaman/kernel";
import { compileSchema, draft2020, render, type JsonError, type SchemaNode } from "json-schema-library";

import { boundedDrafts, TooMuchWork, type Meter } from "./bounded-drafts.ts";
import { findJsonSchemaProblem } from "./json-schema-problem.ts";

/** Says what of a value does not fit, in sentences for a model; nothing when it fits. */
export type JsonSchemaValidator = (value: Json) => readonly string[];

/** References to references multiply: a schema of 1 kB can ask for billions. */
const MAX_STEPS = 200_000;
const MAX_PROBLEMS = 10;
const MAX_PROBLEM_CHARS = 200;
const MAX_SHOWN_CHARS = 60;

const shown = (value: unknown): unknown => {
  if (typeof value === "number" || value === undefined) return value;
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > MAX_SHOWN_CHARS ? `${text.slice(0, MAX_SHOWN_CHARS)}…` : text;
};

/** Places of the library's sentences that are short, and one that stands for its inner objects. */
const WHOLE = new Set(["pointer", "message"]);
const LEFT_OUT = "matches";

/** The library's own words for an error, with what they quote cut. Nothing but what they quote is looked at. */
const sentenceOf = ({ code, data, message }: JsonError): string => {
  const template = typeof code === "string" ? draft2020.errors[code] : undefined;
  if (message !== "" || typeof template !== "string") return message.slice(0, MAX_PROBLEM_CHARS);
  const places = [...template.matchAll(/\{\{(\w+)\}\}/g)].map(([, name = ""]) => name);
  const quoted = places
    .filter((name) => name !== LEFT_OUT)
    .map((name) => [name, WHOLE.has(name) ? data[name] : shown(data[name])] as const);
  return render(template, Object.fromEntries(quoted)).slice(0, MAX_PROBLEM_CHARS);
};

const read = (schema: JsonObject | boolean, meter: Meter): Result<SchemaNode, string> => {
  try {
    // A copy, because reading changes it. An unknown dialect is read as the newest one.
    const node = compileSchema(structuredClone(schema), { drafts: boundedDrafts(meter), formatAssertion: false });
    const [first] = node.schemaErrors ?? [];
    return first === undefined ? ok(node) : err(`is not valid JSON Schema: ${sentenceOf(first)}`);
  } catch (thrown) {
    return err(thrown instanceof TooMuchWork ? "takes too long to read" : "cannot be read");
  }
};

/**
 * Makes a validator of a JSON Schema from outside (drafts 4 to 2020-12). Nothing of it is evaluated as code or fetched,
 * its patterns run on RE2, `format` is a remark only, and work is bounded. The error, which is the end of a sentence that
 * begins with the schema, says what is wrong with one that is too large, refers to elsewhere, or is none.
 */
export const compileJsonSchema = (schema: Json): Result<JsonSchemaValidator, string> => {
  if (typeof schema !== "boolean" && !isJsonObject(schema)) return err("must be a JSON Schema: a map");
  const problem = findJsonSchemaProblem(schema);
  if (problem !== undefined) return err(problem);
  const meter: Meter = { left: MAX_STEPS };
  const node = read(schema, meter);
  if (!node.ok) return node;
  return ok((value) => {
    meter.left = MAX_STEPS;
    try {
      const { valid, errors } = node.value.validate(value);
      if (valid) return [];
      const problems = errors.slice(0, MAX_PROBLEMS).map(sentenceOf);
      return problems.length > 0 ? problems : ["It does not fit the schema."];
    } catch (thrown) {
      // What could not be checked does not fit, whatever in the schema it was that the library stumbled over.
      const isTooMuch = thrown instanceof TooMuchWork || thrown instanceof RangeError;
      return [`It cannot be checked: the schema ${isTooMuch ? "asks for too much work" : "confuses the validator"}.`];
    }
  });
};
