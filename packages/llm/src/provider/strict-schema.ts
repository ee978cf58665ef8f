import type { Json, JsonObject } from "@shaman/kernel";

const isObject = (value: Json | undefined): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Keywords that OpenAI's strict mode takes: https://platform.openai.com/docs/guides/structured-outputs#supported-schemas */
const KEYWORDS: ReadonlySet<string> = new Set([
  "$defs",
  "$ref",
  "additionalProperties",
  "anyOf",
  "const",
  "description",
  "enum",
  "items",
  "properties",
  "required",
  "title",
  "type",
]);
const MAX_DEPTH = 10;

const isClosed = (schema: JsonObject): boolean => {
  const properties = Object.keys(isObject(schema.properties) ? schema.properties : {});
  const required = Array.isArray(schema.required) ? schema.required : [];
  return schema.additionalProperties === false && properties.every((name) => required.includes(name));
};

const isStrictBelow = (schema: Json, depth: number): boolean => {
  if (!isObject(schema) || depth > MAX_DEPTH) return false;
  if (!Object.keys(schema).every((key) => KEYWORDS.has(key))) return false;
  if ((schema.type === "object" || schema.properties !== undefined) && !isClosed(schema)) return false;
  const inner = [
    ...(Array.isArray(schema.anyOf) ? schema.anyOf : []),
    ...Object.values(isObject(schema.properties) ? schema.properties : {}),
    ...Object.values(isObject(schema.$defs) ? schema.$defs : {}),
    ...(schema.items === undefined ? [] : [schema.items]),
  ];
  return inner.every((each) => isStrictBelow(each, depth + 1));
};

/**
 * Whether OpenAI would take this schema in its strict mode, where every answer fits. It refuses a whole request for one
 * keyword that it does not know, so that any other schema is sent as a wish, and its answers are checked by us as all are.
 */
export const isStrictSchema = (schema: JsonObject): boolean =>
  schema.type === "object" && schema.anyOf === undefined && isStrictBelow(schema, 0);
