import { newId } from "@shaman/kernel";
import { describe, expect, test } from "vitest";
import { apiKeyPrefix, hashApiKey, makeApiKey, parseApiKey } from "./api-key-format.ts";

const keyId = newId("key");

describe("an API key", () => {
  test("names its mode and its id in the open, so that it can be looked up without its hash", () => {
    for (const mode of ["live", "test"] as const) {
      const key = makeApiKey({ keyId, mode }).reveal();
      expect(key.startsWith(`sk_${mode}_${keyId.slice(4)}_`)).toBe(true);
      expect(parseApiKey(key)).toEqual({ keyId, mode });
    }
  });

  test("carries 256 bits that differ from key to key, in 52 letters and digits", () => {
    const secrets = Array.from({ length: 200 }, () => makeApiKey({ keyId, mode: "live" }).reveal().slice(35, 87));
    expect(new Set(secrets).size).toBe(200);
    for (let at = 0; at < 51; at += 1) {
      expect(new Set(secrets.map((secret) => secret.charAt(at))).size).toBeGreaterThan(16);
    }
  });

  test("is refused after any one-letter typo, without a query", () => {
    const key = makeApiKey({ keyId, mode: "live" }).reveal();
    for (let at = 0; at < key.length; at += 1) {
      const typo = key.slice(0, at) + (key.charAt(at) === "0" ? "1" : "0") + key.slice(at + 1);
      expect(parseApiKey(typo)).toBeUndefined();
    }
  });

  test("is refused when two neighbouring letters are swapped, a letter is lost, or anything is added", () => {
    const key = makeApiKey({ keyId, mode: "live" }).reveal();
    for (let at = 35; at < key.length - 1; at += 1) {
      const [a, b] = [key.charAt(at), key.charAt(at + 1)];
      if (a !== b) expect(parseApiKey(key.slice(0, at) + b + a + key.slice(at + 2))).toBeUndefined();
    }
    for (const text of [
      key.slice(1),
      key.slice(0, -1),
      `${key} `,
      ` ${key}`,
      `${key}\n`,
      key.toUpperCase(),
      "",
      "sk_live_",
    ]) {
      expect(parseApiKey(text)).toBeUndefined();
    }
  });

  test("prints as [secret], and its prefix holds none of its secret part", () => {
    const key = makeApiKey({ keyId, mode: "live" });
    expect(String(key)).toBe("[secret]");
    expect(apiKeyPrefix({ keyId, mode: "live" })).toBe(key.reveal().slice(0, 34));
  });

  test("is stored as SHA-256", () => {
    expect(hashApiKey("abc").toString("hex")).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  });
});
