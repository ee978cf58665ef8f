import { randomBytes } from "node:crypto";

import { describe, expect, test } from "vitest";

import { parseSecretKeys, secretsConfig } from "./secret-keys.ts";

const good = `a:${randomBytes(32).toString("base64url")}`;

describe("SHAMAN_SECRET_KEYS", () => {
  test("takes one or many keys, the first being current", () => {
    const read = secretsConfig.read({ SHAMAN_SECRET_KEYS: `${good}, b:${randomBytes(48).toString("base64url")}` });
    if (!read.ok) throw new Error(read.error.join());
    expect(read.value.currentKid).toBe("a");
    expect([...read.value.byKid.keys()]).toEqual(["a", "b"]);
  });

  test("is refused with a sentence that names the place and never the key", () => {
    const short = randomBytes(31).toString("base64url");
    const cases: readonly (readonly [string | undefined, RegExp])[] = [
      [undefined, /is missing/],
      [`a:${short}`, /key 1 is too short/],
      [`${good},b:${short}`, /key 2 is too short/],
      ["a:not base64!", /key 1 is too short or not base64url/],
      [`:${short}`, /key 1 must have the form/],
      [`${good},${good}`, /key 2 has the same kid/],
      [`${good},`, /key 2 must have the form/],
      [`${good}:x`, /key 1 must have the form/],
    ];
    for (const [text, problem] of cases) {
      const read = secretsConfig.read({ SHAMAN_SECRET_KEYS: text });
      if (read.ok) throw new Error(`accepted ${text}`);
      expect(read.error).toHaveLength(1);
      expect(read.error[0]).toMatch(problem);
      expect(read.error[0]).toMatch(/^SHAMAN_SECRET_KEYS: /);
      expect(read.error[0]).not.toContain(short);
    }
  });

  test("does not show its keys when printed", () => {
    const text = `a:${Buffer.alloc(32, "k").toString("base64url")}`;
    const parsed = parseSecretKeys(text);
    expect(JSON.stringify(parsed)).not.toContain("kkkk");
  });
});
