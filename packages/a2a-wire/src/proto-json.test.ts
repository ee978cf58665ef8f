import { describe, expect, test } from "vitest";
import type { FieldViolation } from "./errors.ts";
import { isNestedDeeper, readObject } from "./proto-json.ts";

const reading = (source: Record<string, unknown>) => {
  const violations: FieldViolation[] = [];
  return { object: readObject(source, "at", violations), violations };
};

describe("a ProtoJSON object", () => {
  test("takes camelCase and proto names, null as absent, and refuses both spellings at once", () => {
    const { object, violations } = reading({ one_two: "a", three: null, fourFive: "b", four_five: "b" });
    expect(object.string("oneTwo")).toBe("a");
    expect(object.string("three")).toBeUndefined();
    expect(object.string("six")).toBeUndefined();
    expect(violations).toEqual([]);
    object.string("fourFive");
    expect(violations).toMatchObject([{ field: "at.fourFive" }]);
  });

  test.each([
    [10, 10],
    ["10", 10],
    [10, 10],
    ["-3", -3],
    [2_147_483_647, 2_147_483_647],
  ])("takes %j as a whole number", (given, read) => {
    const { object, violations } = reading({ n: given });
    expect(object.int32("n")).toBe(read);
    expect(violations).toEqual([]);
  });

  test.each([[10.5], ["10.5"], [""], [" "], ["ten"], [true], [2_147_483_648], [{}]])(
    "refuses %j as a whole number",
    (given) => {
      const { object, violations } = reading({ n: given });
      expect(object.int32("n")).toBeUndefined();
      expect(violations).toMatchObject([{ field: "at.n" }]);
    },
  );

  test("is measured in depth without recursion", () => {
    const nested = (depth: number): unknown => JSON.parse("[".repeat(depth) + "]".repeat(depth));
    expect(isNestedDeeper("text", 0)).toBe(false);
    expect(isNestedDeeper({ a: [{ b: 1 }] }, 3)).toBe(false);
    expect(isNestedDeeper({ a: [{ b: 1 }] }, 1)).toBe(true);
    expect(isNestedDeeper(nested(300_000), 100)).toBe(true);
  });
});
