import { err, ok, userError, type Json, type JsonObject, type Result } from "@shaman/kernel";
import {
  compileSchema,
  draft04,
  draft06,
  draft07,
  draft2019,
  draft2020,
  type Draft,
  type Keyword,
  type SchemaNode,
} from "json-schema-library";
import { RE2JS } from "re2js";

/** Says what does not fit, in a few words for a model, or nothing. */
export type JsonSchemaValidator = (value: Json) => string | undefined;

const MAX_SCHEMA_BYTES = 64 * 1024;
const MAX_SCHEMA_DEPTH = 48;
const MAX_PATTERN_CHARS = 1_000;
const MAX_PATTERN_PROGRAM = 500;
/** Keywords looked at in one validation: references to references multiply, and a schema of 1 kB can ask for billions. */
const MAX_STEPS = 50_000;
const MAX_PROBLEMS = 5;

type Meter = { left: number };

class TooMuchWork extends Error {}

/** The same function, counted; it stops the validation when that has taken too many steps. */
const counted = <A extends unknown[], R>(meter: Meter, work: (...args: A) => R): ((...args: A) => R) =>
  function counting(this: unknown, ...args: A): R {
    meter.left -= 1;
    if (meter.left < 0) throw new TooMuchWork();
    return work.apply(this, args);
  };

const asRegExp = (pattern: string): RegExp => {
  const compiled = RE2JS.compile(pattern);
  // The library calls nothing of a pattern but `test`.
  return { test: (text: string) => compiled.matcher(text).find() } as unknown as RegExp;
};

/** The keyword with its patterns on RE2, whose time grows with the text only. */
const onRe2 = (keyword: Keyword): Keyword => {
  const { parse } = keyword;
  if (parse === undefined) return keyword;
  switch (keyword.keyword) {
    case "pattern":
      return {
        ...keyword,
        parse: (node: SchemaNode) => {
          const problem = parse(node);
          if (typeof node.schema.pattern === "string") node["pattern"] = asRegExp(node.schema.pattern);
          return problem;
        },
      };
    case "patternProperties":
      return {
        ...keyword,
        parse: (node: SchemaNode) => {
          const problem = parse(node);
          for (const each of node.patternProperties ?? []) each.pattern = asRegExp(each.name);
          return problem;
        },
      };
    default:
      return keyword;
  }
};

const guardedDraft = (draft: Draft, meter: Meter): Draft => ({
  ...draft,
  keywords: draft.keywords.map(onRe2).map((keyword) => ({
    ...keyword,
    ...(keyword.parse && { parse: counted(meter, keyword.parse) }),
    ...(keyword.validate && {
      validate: Object.assign(counted(meter, keyword.validate), { order: keyword.order ?? 0 }),
    }),
    ...(keyword.reduce && { reduce: Object.assign(counted(meter, keyword.reduce), { order: keyword.order ?? 0 }) }),
  })),
});

const patternProblem = (pattern: string): string | undefined => {
  if (pattern.length > MAX_PATTERN_CHARS) return "has a pattern that is too long";
  try {
    return RE2JS.compile(pattern).programSize() > MAX_PATTERN_PROGRAM ? "has a pattern that is too large" : undefined;
  } catch {
    return `has the pattern ${JSON.stringify(pattern.slice(0, 60))}, which is not RE2 syntax`;
  }
};

const keywordProblem = (key: string, value: Json): string | undefined => {
  const isReference = key === "$ref" || key === "$dynamicRef" || key === "$recursiveRef";
  if (isReference && typeof value === "string" && !value.startsWith("#")) return "refers to another document";
  if (key === "pattern" && typeof value === "string") return patternProblem(value);
  if (key === "patternProperties" && typeof value === "object" && value !== null && !Array.isArray(value)) {
    for (const pattern of Object.keys(value)) {
      const problem = patternProblem(pattern);
      if (problem !== undefined) return problem;
    }
  }
  return undefined;
};

const findProblem = (value: Json, depth: number): string | undefined => {
  if (value === null || typeof value !== "object") return undefined;
  if (depth > MAX_SCHEMA_DEPTH) return `is nested deeper than ${MAX_SCHEMA_DEPTH} levels`;
  for (const [key, inner] of Object.entries(value)) {
    const problem = (Array.isArray(value) ? undefined : keywordProblem(key, inner)) ?? findProblem(inner, depth + 1);
    if (problem !== undefined) return problem;
  }
  return undefined;
};

const unusable = (problem: string): Result<never> => err(userError("json_schema_unusable", `The schema ${problem}.`));

/**
 * Makes a validator of a JSON Schema from outside (drafts 4 to 2020-12). Nothing of it is evaluated as code or fetched,
 * its patterns run on RE2, `format` is a remark only, and work is bounded; `json_schema_unusable` says what is wrong
 * with a schema that is too large, refers to elsewhere, or is none.
 */
export const compileJsonSchema = (schema: JsonObject): Result<JsonSchemaValidator> => {
  const problem = findProblem(schema, 0);
  if (problem !== undefined) return unusable(problem);
  if (Buffer.byteLength(JSON.stringify(schema)) > MAX_SCHEMA_BYTES) {
    return unusable(`is larger than ${MAX_SCHEMA_BYTES / 1024} kB`);
  }
  const meter: Meter = { left: MAX_STEPS };
  const drafts = [draft04, draft06, draft07, draft2019, draft2020].map((draft) => guardedDraft(draft, meter));
  let node: SchemaNode;
  try {
    // An unknown dialect is read as the newest one.
    const compiled = compileSchema(schema, { drafts, formatAssertion: false });
    const [first] = compiled.schemaErrors ?? [];
    if (first !== undefined) return unusable(`is not valid JSON Schema: ${first.message.slice(0, 200)}`);
    node = compiled;
  } catch (thrown) {
    return unusable(thrown instanceof TooMuchWork ? "takes too long to read" : "cannot be read");
  }
  return ok((value) => {
    meter.left = MAX_STEPS;
    try {
      const { valid, errors } = node.validate(value);
      if (valid) return undefined;
      return (
        errors
          .slice(0, MAX_PROBLEMS)
          .map(({ message }) => message.slice(0, 200))
          .join("; ") || "it does not fit"
      );
    } catch (thrown) {
      if (thrown instanceof TooMuchWork || thrown instanceof RangeError) return "the schema takes too long to check";
      throw thrown;
    }
  });
};
