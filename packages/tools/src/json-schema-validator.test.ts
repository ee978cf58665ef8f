import { unwrap, type JsonObject } from "@shaman/kernel";
import { describe, expect, test } from "vitest";
import { compileJsonSchema } from "./json-schema-validator.ts";

const check = (schema: JsonObject, value: Parameters<ReturnType<typeof validatorOf>>[0]) => validatorOf(schema)(value);
const validatorOf = (schema: JsonObject) => unwrap(compileJsonSchema(schema));
const problemOf = (schema: JsonObject): string => {
  const compiled = compileJsonSchema(schema);
  return compiled.ok ? "none" : compiled.error.message;
};

describe("a JSON Schema from outside", () => {
  test("lets what fits through and says in words what does not", () => {
    const schema = {
      type: "object",
      properties: { amount: { type: "number", minimum: 1 }, currency: { enum: ["EUR", "USD"] } },
      required: ["amount"],
      additionalProperties: false,
    };
    expect(check(schema, { amount: 3, currency: "EUR" })).toBeUndefined();
    expect(check(schema, {})).toContain("amount");
    expect(check(schema, { amount: 0 })).toBeTypeOf("string");
    expect(check(schema, { amount: 1, extra: true })).toContain("extra");
    expect(check(schema, { amount: 1, currency: "GBP" })).toBeTypeOf("string");
  });

  test("may refer within itself, recursively, in old drafts and new", () => {
    for (const [$schema, key] of [
      ["http://json-schema.org/draft-07/schema#", "definitions"],
      ["https://json-schema.org/draft/2020-12/schema", "$defs"],
    ] as const) {
      const node = { type: "object", properties: { next: { $ref: `#/${key}/node` }, value: { type: "integer" } } };
      const schema = { $schema, [key]: { node }, $ref: `#/${key}/node` };
      expect(check(schema, { value: 1, next: { value: 2 } })).toBeUndefined();
      expect(check(schema, { value: 1, next: { value: "two" } })).toBeTypeOf("string");
    }
  });

  test("is refused when it refers to another document, is too large or too deep, or is no schema", () => {
    expect(problemOf({ $ref: "https://example.com/schema.json" })).toContain("another document");
    expect(problemOf({ properties: { a: { $ref: "file:///etc/passwd" } } })).toContain("another document");
    expect(problemOf({ description: "x".repeat(70_000) })).toContain("larger than 64 kB");
    let deep: JsonObject = {};
    for (let depth = 0; depth < 60; depth += 1) deep = { properties: { a: deep } };
    expect(problemOf(deep)).toContain("deeper");
    expect(problemOf({ type: "strong" })).not.toBe("none");
  });

  test("has its patterns run in time that grows with the text only, and refuses others", () => {
    const text = `${"a".repeat(50_000)}!`;
    expect(check({ type: "string", pattern: "^(a+)+$" }, text)).toBeTypeOf("string");
    expect(check({ type: "string", pattern: "^(a+)+!$" }, text)).toBeUndefined();
    expect(check({ patternProperties: { "^(a+)+$": false } }, { [text]: 1 })).toBeUndefined();
    expect(check({ patternProperties: { "^b": { type: "number" } } }, { b1: "no" })).toBeTypeOf("string");
    expect(check({ patternProperties: { "^b": {} }, additionalProperties: false }, { c: 1 })).toBeTypeOf("string");
    expect(problemOf({ pattern: "(?=a)b" })).toContain("RE2");
  });

  test("cannot ask for endless work by references that multiply or go round", () => {
    const $defs: Record<string, JsonObject> = { d0: { type: "string" } };
    for (let level = 1; level <= 30; level += 1) {
      $defs[`d${level}`] = { allOf: [{ $ref: `#/$defs/d${level - 1}` }, { $ref: `#/$defs/d${level - 1}` }] };
    }
    expect(check({ $defs, $ref: "#/$defs/d30" }, "x")).toContain("too long");
    expect(check({ $ref: "#" }, "x")).toBeTypeOf("string");
  });
});
