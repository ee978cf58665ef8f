import type { Json } from "@shaman/kernel";
import { describe, expect, test } from "vitest";

import { findSchemaViolations } from "./json-schema-check.ts";

type Case = readonly [schema: Json, good: readonly Json[], bad: readonly Json[]];

// As text, because `then` of an object means something to JavaScript.
const CONDITIONAL: Json = JSON.parse(
  '{"if": {"properties": {"a": {"const": 1}}, "required": ["a"]}, "then": {"required": ["b"]}, "else": {"required": ["c"]}}',
);

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
  [{ items: { type: "number" }, minItems: 1 }, [[1], {}], [[], ["x"]]],
  [{ prefixItems: [{ type: "string" }], items: { type: "number" } }, [["a"], ["a", 1], []], [["a", "b"], [1]]],
  [{ items: [{ type: "string" }], additionalItems: false }, [["a"]], [["a", 1]]],
  [{ uniqueItems: true }, [[1, "1", { a: 1 }]], [[{ a: 1 }, { a: 1 }]]],
  [{ contains: { const: 1 }, maxContains: 2 }, [[1], [1, 1, 2]], [[2], [1, 1, 1]]],
  [{ required: ["a"], additionalProperties: false, properties: { a: {} } }, [{ a: 1 }], [{}, { a: 1, b: 2 }]],
  [
    { patternProperties: { "^x-": { type: "number" } }, additionalProperties: { type: "string" } },
    [{ "x-a": 1, b: "s" }],
    [{ "x-a": "s" }, { b: 1 }],
  ],
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
  [{ properties: { constructor: { type: "number" } }, required: ["constructor"] }, [{ constructor: 1 }], [{}]],
];

describe("a value is checked by its schema", () => {
  test.each(CASES)("%j", (schema, good, bad) => {
    for (const value of good) expect(findSchemaViolations(schema, value), JSON.stringify(value)).toEqual([]);
    for (const value of bad) expect(findSchemaViolations(schema, value), JSON.stringify(value)).not.toEqual([]);
  });

  test("and each violation names its place and what is wanted there", () => {
    const schema = {
      type: "object",
      required: ["total"],
      properties: { items: { items: { properties: { price: { type: "number", minimum: 0 } } } } },
    };
    expect(findSchemaViolations(schema, { items: [{ price: 1 }, { price: -1 }, { price: "3" }] })).toEqual([
      "/total is missing",
      "/items/1/price must be at least 0",
      "/items/2/price must be number, and is string",
    ]);
    const closed = { properties: { a: {} }, additionalProperties: false };
    expect(findSchemaViolations(closed, { a: 1, "b/c": 2 })).toEqual(["/b~1c is not a property it may have"]);
  });

  test("and says at most ten things, however much is wrong", () => {
    const list = Array.from({ length: 1_000 }, () => "x");
    expect(findSchemaViolations({ items: { type: "number" } }, list)).toHaveLength(10);
  });
});

describe("a schema that asks for too much work is given up, and nothing counts as valid", () => {
  const doubled = Object.fromEntries(
    Array.from({ length: 60 }, (_, i) => [
      `d${i}`,
      { allOf: [{ $ref: `#/$defs/d${i + 1}` }, { $ref: `#/$defs/d${i + 1}` }] },
    ]),
  );
  test.each<readonly [string, Json, Json]>([
    ["references that double at every step", { $ref: "#/$defs/d0", $defs: { ...doubled, d60: true } }, 1],
    ["a reference to itself", { $ref: "#" }, 1],
    ["every pair of a long list", { uniqueItems: true }, Array.from({ length: 20_000 }, (_, i) => i)],
  ])("%s", (_, schema, value) => {
    expect(findSchemaViolations(schema, value)).toEqual([expect.stringContaining("too much work")]);
  });

  test("a pattern that is poison elsewhere is linear here", () => {
    expect(findSchemaViolations({ pattern: "^(a+)+$" }, `${"a".repeat(50_000)}!`)).toHaveLength(1);
  });

  test("a reference that leads nowhere, or outside, is a violation", () => {
    for (const $ref of ["#/$defs/none", "https://example.com/s.json", "#/__proto__/x", "#/%"]) {
      expect(findSchemaViolations({ $ref }, 1), $ref).toHaveLength(1);
    }
  });
});
