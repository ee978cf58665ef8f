import type { Json, JsonObject } from "@shaman/kernel";
import { RE2JS } from "re2js";

const MAX_VIOLATIONS = 10;
const MAX_DEPTH = 100;
/** Schemas looked at, and a share of the texts' length: a few references can stand for more work than there is time. */
const MAX_WORK = 200_000;
const CHARS_PER_WORK = 100;
const MAX_SHOWN_CHARS = 60;

type Place = { readonly at: string; readonly depth: number };

type Check = {
  readonly root: Json;
  readonly violations: string[];
  readonly patterns: Map<string, RE2JS | undefined>;
  work: number;
};

class TooMuch extends Error {}

const isObject = (value: Json | undefined): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const isList = (value: Json | undefined): value is readonly Json[] => Array.isArray(value);

const spend = (check: Check, amount: number): void => {
  check.work += amount;
  if (check.work > MAX_WORK) throw new TooMuch();
};

const shown = (value: Json): string => {
  const text = JSON.stringify(value);
  return text.length > MAX_SHOWN_CHARS ? `${text.slice(0, MAX_SHOWN_CHARS)}…` : text;
};

const equal = (a: Json, b: Json): boolean => {
  if (a === b) return true;
  if (isList(a)) return isList(b) && a.length === b.length && a.every((item, index) => equal(item, b[index] ?? null));
  if (!isObject(a) || !isObject(b)) return false;
  const keys = Object.keys(a);
  if (keys.length !== Object.keys(b).length) return false;
  return keys.every((key) => Object.hasOwn(b, key) && equal(a[key] ?? null, b[key] ?? null));
};

const typeOf = (value: Json): string => {
  if (value === null) return "null";
  if (isList(value)) return "array";
  return typeof value === "number" && Number.isInteger(value) ? "integer" : typeof value;
};

const hasType = (value: Json, wanted: Json): boolean => {
  const type = typeOf(value);
  return type === wanted || (type === "integer" && wanted === "number");
};

const decoded = (part: string): string => {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
};

/** The schema that a reference within the document means (RFC 6901, as a URI fragment). */
const target = (root: Json, reference: string): Json | undefined => {
  if (reference === "#") return root;
  if (!reference.startsWith("#/")) return undefined;
  let found: Json | undefined = root;
  for (const part of reference.slice(2).split("/")) {
    const key = decoded(part).replaceAll("~1", "/").replaceAll("~0", "~");
    if (isList(found)) found = found[Number(key)];
    else found = isObject(found) && Object.hasOwn(found, key) ? found[key] : undefined;
  }
  return found;
};

const patternOf = (check: Check, pattern: string): RE2JS | undefined => {
  if (!check.patterns.has(pattern)) {
    try {
      check.patterns.set(pattern, RE2JS.compile(pattern));
    } catch {
      check.patterns.set(pattern, undefined);
    }
  }
  return check.patterns.get(pattern);
};

const agrees = (check: Check, pattern: string, text: string): boolean => {
  spend(check, 1 + text.length / CHARS_PER_WORK);
  return patternOf(check, pattern)?.matcher(text).find() === true;
};

const say = (check: Check, place: Place, problem: string): false => {
  if (check.violations.length < MAX_VIOLATIONS) {
    check.violations.push(`${place.at === "" ? "the whole" : place.at} ${problem}`);
  }
  return false;
};

/** Whether a value fits, without a word about it: for `anyOf`, `not` and their like. */
const fits = (check: Check, schema: Json, value: Json, place: Place): boolean => {
  const length = check.violations.length;
  const valid = judge(check, schema, value, place);
  check.violations.length = length;
  return valid;
};

const bound = (schema: JsonObject, key: string): number | undefined => {
  const limit = schema[key];
  return typeof limit === "number" ? limit : undefined;
};

type Bound = readonly [key: string, holds: (size: number, limit: number) => boolean, text: string];

const SIZES: Readonly<Record<"number" | "string" | "array" | "object", readonly Bound[]>> = {
  number: [
    ["minimum", (size, limit) => size >= limit, "must be at least"],
    ["maximum", (size, limit) => size <= limit, "must be at most"],
    ["exclusiveMinimum", (size, limit) => size > limit, "must be more than"],
    ["exclusiveMaximum", (size, limit) => size < limit, "must be less than"],
    ["multipleOf", (size, limit) => Number.isInteger(Number((size / limit).toPrecision(12))), "must be a multiple of"],
  ],
  string: [
    ["minLength", (size, limit) => size >= limit, "must have so many characters at least:"],
    ["maxLength", (size, limit) => size <= limit, "must have so many characters at most:"],
  ],
  array: [
    ["minItems", (size, limit) => size >= limit, "must have so many items at least:"],
    ["maxItems", (size, limit) => size <= limit, "must have so many items at most:"],
  ],
  object: [
    ["minProperties", (size, limit) => size >= limit, "must have so many properties at least:"],
    ["maxProperties", (size, limit) => size <= limit, "must have so many properties at most:"],
  ],
};

const judgeSizes = (
  check: Check,
  schema: JsonObject,
  sized: { kind: keyof typeof SIZES; size: number },
  place: Place,
) => {
  let valid = true;
  for (const [key, holds, text] of SIZES[sized.kind]) {
    const limit = bound(schema, key);
    if (limit !== undefined && !holds(sized.size, limit)) valid = say(check, place, `${text} ${limit}`);
  }
  return valid;
};

const below = (place: Place, key: string | number): Place => ({
  at: `${place.at}/${String(key).replaceAll("~", "~0").replaceAll("/", "~1")}`,
  depth: place.depth + 1,
});

const judgeList = (check: Check, schema: JsonObject, list: readonly Json[], place: Place): boolean => {
  let valid = judgeSizes(check, schema, { kind: "array", size: list.length }, place);
  // A list as `items` is how drafts before 2020-12 wrote `prefixItems`.
  const first = isList(schema.items) ? schema.items : isList(schema.prefixItems) ? schema.prefixItems : [];
  const others = isList(schema.items) ? schema.additionalItems : schema.items;
  for (const [index, item] of list.entries()) {
    const inner = index < first.length ? first[index] : others;
    if (inner !== undefined && !judge(check, inner, item, below(place, index))) valid = false;
  }
  if (schema.uniqueItems === true) {
    spend(check, list.length ** 2 / CHARS_PER_WORK);
    const repeated = list.findIndex((item, index) => list.slice(0, index).some((earlier) => equal(earlier, item)));
    if (repeated !== -1) valid = say(check, below(place, repeated), "is there twice");
  }
  const { contains } = schema;
  if (contains !== undefined) {
    const found = list.filter((item) => fits(check, contains, item, below(place, 0))).length;
    const least = bound(schema, "minContains") ?? 1;
    if (found < least || found > (bound(schema, "maxContains") ?? Infinity)) {
      valid = say(check, place, `contains ${found} items of the kind it must contain`);
    }
  }
  return valid;
};

const judgeMembers = (check: Check, schema: JsonObject, value: JsonObject, place: Place): boolean => {
  let valid = true;
  const { properties, patternProperties, additionalProperties, propertyNames } = schema;
  for (const [key, member] of Object.entries(value)) {
    const inside = below(place, key);
    let known = false;
    if (isObject(properties) && Object.hasOwn(properties, key)) {
      known = true;
      if (!judge(check, properties[key] ?? true, member, inside)) valid = false;
    }
    for (const [pattern, inner] of isObject(patternProperties) ? Object.entries(patternProperties) : []) {
      if (!agrees(check, pattern, key)) continue;
      known = true;
      if (!judge(check, inner, member, inside)) valid = false;
    }
    if (!known && additionalProperties === false) valid = say(check, inside, "is not a property it may have");
    else if (!known && additionalProperties !== undefined && !judge(check, additionalProperties, member, inside)) {
      valid = false;
    }
    if (propertyNames !== undefined && !fits(check, propertyNames, key, inside)) {
      valid = say(check, inside, "has a name it may not have");
    }
  }
  return valid;
};

const judgeObject = (check: Check, schema: JsonObject, value: JsonObject, place: Place): boolean => {
  let valid = judgeSizes(check, schema, { kind: "object", size: Object.keys(value).length }, place);
  const needs = (names: Json | undefined): void => {
    for (const name of isList(names) ? names : []) {
      if (typeof name === "string" && !Object.hasOwn(value, name)) valid = say(check, below(place, name), "is missing");
    }
  };
  needs(schema.required);
  for (const key of ["dependentRequired", "dependentSchemas", "dependencies"]) {
    const dependents = schema[key];
    for (const [name, then] of isObject(dependents) ? Object.entries(dependents) : []) {
      if (!Object.hasOwn(value, name)) continue;
      if (isList(then)) needs(then);
      else if (!judge(check, then, value, place)) valid = false;
    }
  }
  return judgeMembers(check, schema, value, place) && valid;
};

const judgeKind = (check: Check, schema: JsonObject, value: Json, place: Place): boolean => {
  if (typeof value === "number") return judgeSizes(check, schema, { kind: "number", size: value }, place);
  if (isList(value)) return judgeList(check, schema, value, place);
  if (isObject(value)) return judgeObject(check, schema, value, place);
  if (typeof value !== "string") return true;
  let valid = judgeSizes(check, schema, { kind: "string", size: Array.from(value).length }, place);
  if (typeof schema.pattern === "string" && !agrees(check, schema.pattern, value)) {
    valid = say(check, place, `must match the pattern ${schema.pattern}`);
  }
  return valid;
};

/** `allOf`, `anyOf`, `oneOf`, `not`, `if`: schemas about the same value. */
const judgeCombined = (check: Check, schema: JsonObject, value: Json, place: Place): boolean => {
  const deeper = { ...place, depth: place.depth + 1 };
  let valid = true;
  for (const inner of isList(schema.allOf) ? schema.allOf : []) if (!judge(check, inner, value, deeper)) valid = false;
  const { anyOf, oneOf, not } = schema;
  if (isList(anyOf) && !anyOf.some((inner) => fits(check, inner, value, deeper))) {
    valid = say(check, place, "fits none of the forms it may have");
  }
  if (isList(oneOf)) {
    const fitting = oneOf.filter((inner) => fits(check, inner, value, deeper)).length;
    if (fitting !== 1) valid = say(check, place, `fits ${fitting} of the forms of which it must have exactly one`);
  }
  if (not !== undefined && fits(check, not, value, deeper)) valid = say(check, place, "has a form it must not have");
  if (schema.if !== undefined) {
    const branch = fits(check, schema.if, value, deeper) ? schema.then : schema.else;
    if (branch !== undefined && !judge(check, branch, value, deeper)) valid = false;
  }
  return valid;
};

const judge = (check: Check, schema: Json, value: Json, place: Place): boolean => {
  spend(check, 1);
  if (place.depth > MAX_DEPTH) throw new TooMuch();
  if (schema === false) return say(check, place, "may not be there");
  if (!isObject(schema)) return true;
  let valid = true;
  for (const key of ["$ref", "$dynamicRef"]) {
    const reference = schema[key];
    if (typeof reference !== "string") continue;
    const meant = target(check.root, reference);
    const problem = `cannot be checked: the schema has no ${reference.slice(0, 100)}`;
    if (meant === undefined) valid = say(check, place, problem);
    else if (!judge(check, meant, value, { ...place, depth: place.depth + 1 })) valid = false;
  }
  const { type } = schema;
  const types = isList(type) ? type : type === undefined ? [] : [type];
  if (types.length > 0 && !types.some((wanted) => hasType(value, wanted))) {
    return say(check, place, `must be ${types.map(String).join(" or ")}, and is ${typeOf(value)}`);
  }
  if (isList(schema.enum) && !schema.enum.some((allowed) => equal(allowed, value))) {
    valid = say(check, place, `must be one of ${shown(schema.enum)}, and is ${shown(value)}`);
  }
  if (schema.const !== undefined && !equal(schema.const, value)) {
    valid = say(check, place, `must be ${shown(schema.const)}, and is ${shown(value)}`);
  }
  if (!judgeKind(check, schema, value, place)) valid = false;
  return judgeCombined(check, schema, value, place) && valid;
};

/**
 * What is wrong with a value by a JSON Schema (2020-12, and what drafts before it wrote otherwise), as sentences that begin
 * with its place; nothing when it fits. Interprets: nothing of a schema becomes code, patterns run on RE2, references stay
 * within the document, and the work is bounded, so that a tenant's schema can hang nobody. `format` is a remark, as the
 * standard has it.
 */
export const findSchemaViolations = (schema: Json, value: Json): readonly string[] => {
  const check: Check = { root: schema, violations: [], patterns: new Map(), work: 0 };
  try {
    const valid = judge(check, schema, value, { at: "", depth: 0 });
    return valid || check.violations.length > 0 ? check.violations : ["the whole does not fit its schema"];
  } catch (thrown) {
    if (thrown instanceof TooMuch) return ["the whole cannot be checked: its schema asks for too much work"];
    throw thrown;
  }
};
