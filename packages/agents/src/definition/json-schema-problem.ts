import type { Json } from "@shaman/kernel";
import { RE2JS } from "re2js";

const MAX_BYTES = 16 * 1024;
const MAX_DEPTH = 32;
const MAX_PATTERN_CHARS = 1_000;
const MAX_PROGRAM = 500;

const patternProblem = (pattern: string): string | undefined => {
  if (pattern.length > MAX_PATTERN_CHARS) return "holds a pattern that is too long";
  try {
    if (RE2JS.compile(pattern).programSize() > MAX_PROGRAM) return "holds a pattern that is too large: make it simpler";
    return undefined;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    return `holds the pattern ${JSON.stringify(pattern.slice(0, 60))}, which is not RE2 syntax: ${reason}`;
  }
};

/** What our validator does not know must not look as if it held. */
const UNSUPPORTED: ReadonlySet<string> = new Set(["unevaluatedProperties", "unevaluatedItems"]);

const keywordProblem = (key: string, value: Json): string | undefined => {
  if (UNSUPPORTED.has(key) && typeof value !== "string") return `uses ${key}, which is not supported here`;
  const isReference = key === "$ref" || key === "$dynamicRef";
  if (isReference && typeof value === "string" && !value.startsWith("#")) {
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
 * What makes a JSON Schema of a tenant unfit to be used: size, nesting, references to elsewhere, patterns that RE2 does
 * not know. Whether it is a meaningful schema is the validator's matter.
 */
export const findJsonSchemaProblem = (schema: Json): string | undefined => {
  const depthOrKeyword = walk(schema, 0);
  if (depthOrKeyword !== undefined) return depthOrKeyword;
  return Buffer.byteLength(JSON.stringify(schema)) > MAX_BYTES ? `is larger than ${MAX_BYTES / 1024} kB` : undefined;
};
