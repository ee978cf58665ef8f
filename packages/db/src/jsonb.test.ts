import { expect, it } from "vitest";
import { toJsonb } from "./jsonb.ts";

it("replaces what PostgreSQL cannot store in jsonb, and nothing else", () => {
  const parse = (value: unknown): unknown => JSON.parse(toJsonb(value));
  expect(parse({ a: "x\u0000y", b: "\ud800", c: "\u{1f600}" })).toEqual({ a: "x\ufffdy", b: "\ufffd", c: "\u{1f600}" });
  expect(parse("\\u0000 and \\\\u0000 as text")).toBe("\\u0000 and \\\\u0000 as text");
  expect(parse("\\\u0000")).toBe("\\\ufffd");
});
