import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { internalJwtConfig, noInternalJwtConfig } from "./internal-jwt-keys.ts";

const key = (kid: string, bytes = 32): string => `${kid}:${randomBytes(bytes).toString("base64url")}`;
const read = (text: string | undefined) => internalJwtConfig.read({ INTERNAL_JWT_KEYS: text });

describe("INTERNAL_JWT_KEYS", () => {
  test("holds one key, or two during a rotation, the first of which signs", () => {
    const both = read(`${key("new")},${key("old")}`);
    expect(both.ok && both.value.keys.map((each) => each?.kid)).toEqual(["new", "old"]);
    expect(read(key("only", 64)).ok).toBe(true);
  });

  test.each([
    ["missing", undefined],
    ["empty", ""],
    ["31 bytes long", key("a", 31)],
    ["of 4 bytes", "a:c2hvcnQ"],
    ["without kid", randomBytes(32).toString("base64url")],
    ["not base64url", `a:${"+/".repeat(32)}`],
    ["twice of one name", `${key("a")},${key("a")}`],
    ["three", `${key("a")},${key("b")},${key("c")}`],
  ])("is refused when %s, in a sentence that names the variable and no key", (_, text) => {
    const result = read(text);
    expect(result.ok ? [] : result.error).toHaveLength(1);
    if (result.ok) return;
    expect(result.error[0]).toMatch(/^INTERNAL_JWT_KEYS: /);
    for (const part of (text ?? "").split(/[:,]/)) if (part.length > 8) expect(result.error[0]).not.toContain(part);
  });

  test("stops a process that must not hold any", () => {
    expect(noInternalJwtConfig.read({}).ok).toBe(true);
    expect(noInternalJwtConfig.read({ INTERNAL_JWT_KEYS: "" }).ok).toBe(true);
    const refused = noInternalJwtConfig.read({ INTERNAL_JWT_KEYS: key("a") });
    expect(refused.ok ? "" : refused.error[0]).toContain("must not be set");
  });

  test("does not print its keys", () => {
    const text = key("a");
    const result = read(text);
    expect(JSON.stringify(result)).not.toContain(text.slice(2));
  });
});
