import type { Json } from "@shaman/kernel";
import { RE2JS } from "re2js";

const MAX_BYTES = 64 * 1024;
const MAX_DEPTH = 48;
const MAX_PATTERN_CHARS = 1_000;
const MAX_PATTERN_PROGRAM = 500;

const REFERENCES = ["$ref", "$dynamicRef", "$recursiveRef"];

const patternProblem = (pattern: string): string | undefined => {
  if (pattern.length > MAX_PATTERN_CHARS) return "holds a pattern that is too long";
  try {
    const size = RE2JS.compile(pattern).programSize();
    return size > MAX_PATTERN_PROGRAM ? "holds a pattern that is too large: make it simpler" : undefined;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    return `holds the pattern ${JSON.stringify(pattern.slice(0, 60))}, which is not RE2 syntax: ${reason.slice(0, 100)}`;
  }
};

const keywordProblem = (key: string, value: Json): string | undefined => {
  if (REFERENCES.includes(key) && typeof value === "string" && !value.startsWith("#")) {
    return `may refer within itself only (#/…), not to ${value.slice(0, 100)}`;
  }
  if (key === "pattern" && typeof value === "string") return patternProblem(value);
  if (key === "patternProperties" && typeof value === "object" && value !== null && !Array.isArray(value)) {
    for (const pattern of Object.keys(value)) {
      const problem = patternProblem(pattern);
      if (problem !== undefined) return problem;
    }
  }
  return undefined;
};

const walk = (value: Json, depth: number): string | undefined => {
  if (value === null || typeof value !== "object") return undefined;
  if (depth > MAX_DEPTH) return `is nested deeper than ${MAX_DEPTH} levels`;
  for (const [key, inner] of Object.entries(value)) {
    const problem = (Array.isArray(value) ? undefined : keywordProblem(key, inner)) ?? walk(inner, depth + 1);
    if (problem !== undefined) return problem;
  }
  return undefined;
};

/**
 * What makes a JSON Schema from outside unfit to be used, without making a validator of it: size, nesting, references to
 * elsewhere, patterns that RE2 does not know. The end of a sentence that begins with the schema.
 */
export const findJsonSchemaProblem = (schema: Json): string | undefined =>
  walk(schema, 0) ??
  (Buffer.byteLength(JSON.stringify(schema)) > MAX_BYTES ? `is larger than ${MAX_BYTES / 1024} kB` : undefined);
