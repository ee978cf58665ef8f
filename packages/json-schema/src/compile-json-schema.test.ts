import type { Json, JsonObject } from "@shaman/kernel";
import { describe, expect, test, vi } from "vitest";
import { compileJsonSchema, type JsonSchemaValidator } from "./compile-json-schema.ts";

const validatorOf = (schema: Json): JsonSchemaValidator => {
  const compiled = compileJsonSchema(schema);
  if (!compiled.ok) throw new Error(compiled.error);
  return compiled.value;
};
const check = (schema: Json, value: Json): readonly string[] => validatorOf(schema)(value);
const problemOf = (schema: Json): string => {
  const compiled = compileJsonSchema(schema);
  return compiled.ok ? "none" : compiled.error;
};

type Case = readonly [schema: Json, good: readonly Json[], bad: readonly Json[]];

// As text, because `then` of an object means something to JavaScript.
const CONDITIONAL: Json = JSON.parse(
  '{"if": {"properties": {"a": {"const": 1}}, "required": ["a"]}, "then": {"required": ["b"]}, "else": {"required": ["c"]}}',
);
const DRAFT_7 = "http://json-schema.org/draft-07/schema#";

const CASES: readonly Case[] = [
  [true, [1, null], []],
  [false, [], [1, null]],
  [{ type: "integer" }, [1, -3, 2.0], [1.5, "1", null]],
  [{ type: ["string", "null"] }, ["a", null], [1, []]],
  [{ type: "object" }, [{}], [[], null, "x"]],
  [{ enum: [1, { a: [1] }] }, [1, { a: [1] }], [2, { a: [2] }, { a: [1], b: 1 }]],
  [{ const: { a: 1, b: 2 } }, [{ b: 2, a: 1 }], [{ a: 1 }]],
  [{ minimum: 1, exclusiveMaximum: 3 }, [1, 2.9, "x"], [0.9, 3]],
  [{ multipleOf: 0.01 }, [0.07, 19.99, 3], [0.005]],
  [{ minLength: 2, maxLength: 2 }, ["ab", "🌍🌍"], ["a", "abc"]],
  [{ pattern: "^[A-Z]+-\\d+$" }, ["A-1", 5], ["a-1", "A-1x"]],
  [{ pattern: "(?i)^abc$" }, ["ABC"], ["ABCD"]],
  [{ items: { type: "number" }, minItems: 1 }, [[1], {}], [[], ["x"]]],
  [{ prefixItems: [{ type: "string" }], items: { type: "number" } }, [["a"], ["a", 1], []], [["a", "b"], [1]]],
  [{ $schema: DRAFT_7, items: [{ type: "string" }], additionalItems: false }, [["a"]], [["a", 1]]],
  [{ uniqueItems: true }, [[1, "1", { a: 1 }]], [[{ a: 1 }, { a: 1 }]]],
  [{ contains: { const: 1 }, maxContains: 2 }, [[1], [1, 1, 2]], [[2], [1, 1, 1]]],
  [{ required: ["a"], additionalProperties: false, properties: { a: {} } }, [{ a: 1 }], [{}, { a: 1, _id: 2 }]],
  [
    { patternProperties: { "^x-": { type: "number" } }, additionalProperties: { type: "string" } },
    [{ "x-a": 1, b: "s" }],
    [{ "x-a": "s" }, { b: 1 }],
  ],
  [{ patternProperties: { "^b": {} }, additionalProperties: false }, [{ b1: 1 }], [{ c: 1 }, { constructor: 1 }]],
  [{ propertyNames: { maxLength: 1 }, maxProperties: 2 }, [{ a: 1, b: 1 }], [{ ab: 1 }, { a: 1, b: 1, c: 1 }]],
  [{ dependentRequired: { a: ["b"] } }, [{ b: 1 }, { a: 1, b: 1 }], [{ a: 1 }]],
  [{ dependentSchemas: { a: { required: ["b"] } } }, [{}, { a: 1, b: 1 }], [{ a: 1 }]],
  [{ allOf: [{ minimum: 1 }, { maximum: 2 }] }, [1, 2], [0, 3]],
  [{ anyOf: [{ type: "string" }, { minimum: 5 }] }, ["a", 5], [4]],
  [{ oneOf: [{ minimum: 1 }, { maximum: 2 }] }, [0, 3], [1]],
  [{ not: { type: "string" } }, [1], ["a"]],
  [CONDITIONAL, [{ a: 1, b: 1 }, { c: 1 }], [{ a: 1 }, { a: 2 }]],
  [{ $ref: "#/$defs/a~1b", $defs: { "a/b": { type: "number" } } }, [1], ["x"]],
  [
    { properties: { next: { $ref: "#" }, v: { type: "number" } } },
    [{ next: { next: { v: 1 } } }],
    [{ next: { next: { v: "x" } } }],
  ],
  [
    { $schema: DRAFT_7, definitions: { n: { type: "integer" } }, items: { $ref: "#/definitions/n" } },
    [[1, 2]],
    [[1, "2"]],
  ],
  [{ properties: { constructor: { type: "number" } }, required: ["constructor"] }, [{ constructor: 1 }], [{}]],
  [{ properties: { a: { type: "number" } } }, [{ constructor: "x", toString: 1 }], [{ a: "x" }]],
  [{ properties: { oneOfProperty: { type: "number" } } }, [{ oneOfProperty: 1 }], [{ oneOfProperty: "x" }]],
];

describe("a value is checked by its schema", () => {
  test.each(CASES)("%j", (schema, good, bad) => {
    for (const value of good) expect(check(schema, value), JSON.stringify(value)).toEqual([]);
    for (const value of bad) expect(check(schema, value), JSON.stringify(value)).not.toEqual([]);
  });

  test("and each problem names its place and what is wanted there", () => {
    const schema = {
      type: "object",
      required: ["total"],
      properties: { items: { items: { properties: { price: { type: "number", minimum: 0 } } } } },
    };
    const problems = check(schema, { items: [{ price: 1 }, { price: -1 }, { price: "3" }] });
    expect(problems).toHaveLength(3);
    expect(problems.join("\n")).toMatch(/`total` is missing/);
    expect(problems.join("\n")).toMatch(/#\/items\/1\/price.*`-1`.*`0` at minimum/);
    expect(problems.join("\n")).toMatch(/`3` \(string\) in `#\/items\/2\/price` to be of type `number`/);
  });

  test("and says at most ten things, however much is wrong, each of them short", () => {
    const list = Array.from({ length: 1_000 }, () => "x".repeat(1_000));
    const problems = check({ items: { type: "number" } }, list);
    expect(problems).toHaveLength(10);
    expect(Math.max(...problems.map(({ length }) => length))).toBeLessThanOrEqual(200);
  });

  test("and of alternatives that come to nothing no more is told than that", () => {
    const value = Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`k${i}`, "x".repeat(500)]));
    const schema = { oneOf: Array.from({ length: 50 }, () => ({ properties: { k0: { type: "number" } } })) };
    expect(check(schema, value)).toEqual([expect.stringContaining("does not match any given oneof schema")]);
    expect(check({ oneOf: [true, true, {}] }, value)).toEqual([expect.stringContaining("multiple schemas in oneOf")]);
  });

  test("again and again, with the same answers", () => {
    const validator = validatorOf({ $ref: "#/$defs/n", $defs: { n: { items: { $ref: "#/$defs/n" }, maxItems: 2 } } });
    for (let each = 0; each < 3; each += 1) {
      expect(validator([[], [[]]])).toEqual([]);
      expect(validator([[], [[], [], []]])).toHaveLength(1);
    }
  });

  test("however long the list whose items it describes by a reference", () => {
    const others = Object.fromEntries(Array.from({ length: 10 }, (_, i) => [`other${i}`, { type: "string" }]));
    const line = { type: "object", properties: { sku: { type: "string" }, price: { type: "number" }, ...others } };
    const schema = { type: "array", items: { $ref: "#/$defs/line" }, $defs: { line } };
    const list = Array.from({ length: 5_000 }, (_, index) => ({ sku: `A-${index}`, price: index }));
    expect(check(schema, list)).toEqual([]);
    expect(check(schema, [...list, { sku: 7 }])).toHaveLength(1);
  });
});

describe("a schema is refused, with the reason, when it", () => {
  test.each<readonly [string, Json, RegExp]>([
    ["refers to another document", { $ref: "https://example.com/schema.json" }, /may refer within itself only/],
    ["refers to a file", { properties: { a: { $ref: "file:///etc/passwd" } } }, /may refer within itself only/],
    ["refers to nothing", { $ref: "#/$defs/none" }, /not valid JSON Schema.*\$ref/],
    ["is too large", { description: "x".repeat(70_000) }, /larger than 64 kB/],
    ["is no schema", { type: "strong" }, /not valid JSON Schema.*'strong'/],
    ["is no map", [1], /must be a JSON Schema: a map/],
    ["has a pattern that RE2 does not know", { pattern: "(?=a)b" }, /not RE2 syntax/],
    ["has a pattern that RE2 makes too much of", { pattern: "(a{100}){9}" }, /too large/],
  ])("%s", (_, schema, reason) => {
    expect(problemOf(schema)).toMatch(reason);
  });

  test("is too deep", () => {
    let deep: JsonObject = {};
    for (let depth = 0; depth < 60; depth += 1) deep = { properties: { a: deep } };
    expect(problemOf(deep)).toContain("deeper");
  });
});

describe("a schema that asks for too much work is given up, and nothing counts as valid", () => {
  const doubled = (levels: number): JsonObject => ({
    $ref: "#/$defs/d0",
    $defs: Object.fromEntries(
      Array.from({ length: levels + 1 }, (_, i) => [
        `d${i}`,
        i === levels ? true : { allOf: [{ $ref: `#/$defs/d${i + 1}` }, { $ref: `#/$defs/d${i + 1}` }] },
      ]),
    ),
  });
  const refusals = (count: number, each: JsonObject): JsonObject => ({
    allOf: Array.from({ length: count }, () => each),
  });
  const names = (count: number, of: string): readonly string[] => Array.from({ length: count }, (_, i) => `${of}${i}`);
  const wide = (count: number, of: string, value: Json): JsonObject =>
    Object.fromEntries(names(count, of).map((name) => [name, value]));

  test.each<readonly [string, Json, Json]>([
    ["references that double at every step", doubled(60), 1],
    ["a reference to itself", { $ref: "#" }, 1],
    ["every pair of a long list", { uniqueItems: true }, Array.from({ length: 20_000 }, (_, i) => i)],
    ["a large value that is written out again and again", refusals(2_000, { oneOf: [false] }), wide(20_000, "k", 1)],
    ["a large value compared again and again", refusals(2_000, { enum: [{}] }), wide(20_000, "k", 1)],
    [
      "every property with every name",
      { properties: wide(4_000, "p", true), additionalProperties: false },
      wide(20_000, "k", 1),
    ],
    ["every name with every pattern", { patternProperties: wide(2_000, "p", true) }, wide(20_000, "k", 1)],
    ["a long text with many patterns", refusals(1_000, { pattern: "^(a+)+$" }), `${"a".repeat(200_000)}!`],
  ])("%s", (_, schema, value) => {
    expect(check(schema, value)).toEqual([expect.stringContaining("too much work")]);
  });

  test("but a pattern that is poison elsewhere is linear here", () => {
    const text = `${"a".repeat(50_000)}!`;
    expect(check({ pattern: "^(a+)+$" }, text)).toHaveLength(1);
    expect(check({ pattern: "^(a+)+!$" }, text)).toEqual([]);
    expect(check({ patternProperties: { "^(a+)+$": false } }, { [text]: 1 })).toEqual([]);
  });

  test("and words that the schema puts into its errors cost nothing, however often they repeat what it holds", () => {
    const message = "{{schema}}".repeat(3_000);
    const errorMessages = { "type-error": message, "unknown-keyword-warning": message };
    const problems = check({ errorMessages, type: "string", ...wide(500, "x", 1) }, { a: 1 });
    expect(problems).toEqual([expect.stringContaining("to be of type `string`")]);
  });

  test("and prints nothing", () => {
    const print = vi.spyOn(console, "log").mockImplementation(() => undefined);
    check({ oneOfProperty: "kind", oneOf: [{}, { type: "string" }] }, { kind: "x" });
    expect(print).not.toHaveBeenCalled();
    print.mockRestore();
  });
});
