import {
  draft04,
  draft06,
  draft07,
  draft2019,
  draft2020,
  isJsonSchema,
  isSchemaNode,
  settings,
  type Draft,
  type JsonSchema,
  type JsonSchemaReducerParams,
  type JsonSchemaValidatorParams,
  type Keyword,
  type SchemaNode,
} from "json-schema-library";
import { RE2JS } from "re2js";

/** What is left of the work that one reading or one validation may take; a step is about a microsecond. */
export type Meter = { left: number };

export class TooMuchWork extends Error {}

const spend = (meter: Meter, steps: number): void => {
  meter.left -= steps;
  if (meter.left < 0) throw new TooMuchWork();
};

// The library would let a property of this name pass wherever no others may be.
settings.propertyBlacklist.length = 0;

/** Keywords of the library's own, by which a schema could print to our output or choose flags of patterns. */
const EXTENSIONS = ["oneOfProperty", "regexFlags", "patternExample"];

const CHARS_A_STEP = 10;
/** Entries that a keyword looks at take less time than the keyword itself. */
const ENTRIES_A_STEP = 10;
const COMPARISONS_A_STEP = 50;

/** How many entries a value has of its own. */
const breadth = (value: unknown): number => {
  if (typeof value === "string") return value.length / CHARS_A_STEP;
  return typeof value === "object" && value !== null ? Object.keys(value).length : 0;
};

/** How much there is in a value altogether. */
const bulk = (value: unknown): number => {
  if (typeof value !== "object" || value === null) return 1 + breadth(value);
  let sum = 1;
  for (const [key, inner] of Object.entries(value)) sum += key.length / CHARS_A_STEP + bulk(inner);
  return sum;
};

/** What one look by one keyword at one value costs: some compare everything with everything, or write the value out. */
const cost = (keyword: string, schema: JsonSchema, data: unknown): number => {
  const own = 1 + (breadth(schema[keyword]) + breadth(data)) / ENTRIES_A_STEP;
  switch (keyword) {
    case "pattern":
      return own + breadth(data);
    case "uniqueItems":
      return own + (breadth(data) * bulk(data)) / COMPARISONS_A_STEP;
    case "const":
    case "enum":
      return typeof data === "object" ? own + bulk(data) + bulk(schema[keyword]) : own;
    case "oneOf":
    case "unevaluatedItems":
    case "unevaluatedProperties":
      return own + bulk(data);
    case "additionalProperties":
    case "patternProperties": {
      if (typeof data !== "object" || data === null) return own;
      const matching = bulk(Object.keys(data)) * breadth(schema["patternProperties"]);
      return own + matching + (breadth(data) * breadth(schema["properties"])) / COMPARISONS_A_STEP;
    }
    default:
      return own;
  }
};

const asRegExp = (pattern: string): RegExp => {
  const compiled = RE2JS.compile(pattern);
  // The library calls nothing of a pattern but `test`.
  return { test: (text: string) => compiled.matcher(text).find() } as unknown as RegExp;
};

/** Patterns on RE2, whose time grows with the text only; names that every object of JavaScript has mean nothing. */
const safely = (keyword: Keyword): Keyword => {
  const { parse } = keyword;
  switch (keyword.keyword) {
    case "pattern":
      return {
        ...keyword,
        parse: (node) => {
          const { schema } = node;
          if (typeof schema["pattern"] === "string") {
            node.pattern = asRegExp(schema["pattern"]);
            return undefined;
          }
          const message = "Keyword 'pattern' must be a string";
          return node.createError("schema-error", {
            pointer: node.schemaLocation,
            schema,
            value: schema["pattern"],
            message,
          });
        },
      };
    case "patternProperties":
      return {
        ...keyword,
        parse: (node) => {
          const problem = parse?.(node);
          for (const each of node.patternProperties ?? []) each.pattern = asRegExp(each.name);
          return problem;
        },
      };
    case "properties":
      return {
        ...keyword,
        parse: (node) => {
          const problem = parse?.(node);
          if (node.properties !== undefined) Object.setPrototypeOf(node.properties, null);
          return problem;
        },
      };
    default:
      return keyword;
  }
};

/** References that have been followed, and what is counted while they are. */
type Bounds = { readonly meter: Meter; readonly followed: Map<string, SchemaNode> };

/** Follows each reference once: the library would read what it leads to anew for each value that is looked at. */
const followOnce = (node: SchemaNode, { meter, followed }: Bounds): void => {
  const { resolveRef } = node;
  node.resolveRef = function follow(this: SchemaNode, at = {}) {
    spend(meter, 1);
    const { $ref, schema } = this;
    const isPlain = schema["$dynamicRef"] === undefined && schema["$recursiveRef"] === undefined;
    if ($ref === undefined || !isPlain) return resolveRef.call(this, at);
    const known = followed.get($ref);
    if (known !== undefined) {
      at.path?.push({ pointer: at.pointer ?? "#", node: known });
      return known;
    }
    const found = resolveRef.call(this, at);
    if (isSchemaNode(found)) followed.set($ref, found);
    return found;
  };
};

/** `$ref` is read first, and of each schema, whether it has one or not: the place for what concerns all of them. */
const prepare = (node: SchemaNode): void => {
  // The library writes whole values and schemas into the message of each error, also of those that come to nothing.
  node.createError = (code, data, message) => ({ type: "error", code, message: message ?? "", data });
  node.createAnnotation = (code, data, message) => ({ type: "annotation", code, message: message ?? "", data });
  if (!isJsonSchema(node.schema)) return;
  for (const extension of EXTENSIONS) Reflect.deleteProperty(node.schema, extension);
  if (node.schema["patternProperties"] !== undefined) node.schema["properties"] ??= {};
  const { properties }: JsonSchema = node.schema;
  if (typeof properties === "object" && properties !== null) Object.setPrototypeOf(properties, null);
};

const bounded = (keyword: Keyword, bounds: Bounds): Keyword => {
  const { meter } = bounds;
  const safe = safely(keyword);
  const { parse, validate, reduce } = safe;
  // By these the library sorts them, and tells two of them apart.
  const marks = { order: keyword.order ?? 0, toJSON: () => keyword.keyword };
  return {
    ...safe,
    parse: (node) => {
      spend(meter, 1);
      if (keyword.keyword !== "$ref") return parse?.(node);
      prepare(node);
      const problem = parse?.(node);
      followOnce(node, bounds);
      return problem;
    },
    ...(validate && {
      validate: Object.assign((at: JsonSchemaValidatorParams) => {
        spend(meter, cost(keyword.keyword, at.node.schema, at.data));
        return validate(at);
      }, marks),
    }),
    ...(reduce && {
      reduce: Object.assign((at: JsonSchemaReducerParams) => {
        spend(meter, 1);
        return reduce(at);
      }, marks),
    }),
  };
};

/**
 * The library's drafts for one schema, which it may change: with patterns on RE2, each reference followed once, no message
 * written before it is wanted, and all work counted.
 */
export const boundedDrafts = (meter: Meter): Draft[] => {
  const bounds: Bounds = { meter, followed: new Map() };
  return [draft04, draft06, draft07, draft2019, draft2020].map((draft) => ({
    ...draft,
    keywords: draft.keywords.map((keyword) => bounded(keyword, bounds)),
  }));
};
