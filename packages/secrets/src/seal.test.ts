import { randomBytes } from "node:crypto";

import { Secret, unwrap } from "@shaman/kernel";
import { describe, expect, test } from "vitest";

import { needsResealing, open, seal, secretIdentity } from "./seal.ts";
import { parseSecretKeys, type SecretKeys } from "./secret-keys.ts";

const key = (kid: string, bytes = 32): string => `${kid}:${randomBytes(bytes).toString("base64url")}`;

const keysOf = (...entries: readonly string[]): SecretKeys => {
  const parsed = parseSecretKeys(entries.join(","));
  if (!parsed.ok) throw new Error(parsed.error);
  return parsed.value;
};

const identity = secretIdentity({ orgId: "org_a", secretId: "secret_1" });
const plaintext = new Secret("sk-pâté-🔑");

describe("a sealed secret", () => {
  test("opens with the same key and identity, and never looks the same twice", () => {
    const keys = keysOf(key("a"));
    const sealed = seal(keys, { plaintext, identity });
    expect(unwrap(open(keys, { sealed, identity })).reveal()).toBe("sk-pâté-🔑");
    expect(seal(keys, { plaintext, identity })).not.toBe(sealed);
    expect(sealed).not.toContain("sk-");
  });

  test("is worthless in another row or another organization", () => {
    const keys = keysOf(key("a"));
    const sealed = seal(keys, { plaintext, identity });
    for (const other of [
      secretIdentity({ orgId: "org_a", secretId: "secret_2" }),
      secretIdentity({ orgId: "org_b", secretId: "secret_1" }),
      "",
    ]) {
      const opened = open(keys, { sealed, identity: other });
      expect(opened.ok ? "opened" : opened.error.code).toBe("secret_unreadable");
    }
  });

  test("is refused when one bit of it changed", () => {
    const keys = keysOf(key("a"));
    const [format, kid, body = ""] = seal(keys, { plaintext, identity }).split(".");
    const bytes = Buffer.from(body, "base64url");
    for (let at = 0; at < bytes.length; at += 1) {
      const altered = Buffer.from(bytes);
      altered[at] = (altered[at] ?? 0) ^ 1;
      const sealed = `${format}.${kid}.${altered.toString("base64url")}`;
      expect(open(keys, { sealed, identity }).ok).toBe(false);
    }
    for (const sealed of ["", "v1", "v1.a", "v1.a.", "v2.a.x", `v1.a.${body}.x`, "v1.a.AAAA"]) {
      expect(open(keys, { sealed, identity }).ok).toBe(false);
    }
  });

  test("stays readable while keys are rotated, and says which key is missing afterwards", () => {
    const [oldKey, newKey] = [key("2025"), key("2026")];
    const sealed = seal(keysOf(oldKey), { plaintext, identity });
    const both = keysOf(newKey, oldKey);
    expect(unwrap(open(both, { sealed, identity })).reveal()).toBe(plaintext.reveal());
    expect(needsResealing(both, sealed)).toBe(true);

    const resealed = seal(both, { plaintext: unwrap(open(both, { sealed, identity })), identity });
    expect(needsResealing(both, resealed)).toBe(false);
    expect(unwrap(open(keysOf(newKey), { sealed: resealed, identity })).reveal()).toBe(plaintext.reveal());

    const opened = open(keysOf(newKey), { sealed, identity });
    expect(opened.ok ? "opened" : opened.error.code).toBe("secret_key_unknown");
    expect(opened.ok ? "" : opened.error.message).toContain("2025");
  });

  test("does not open under a key that merely carries the same kid", () => {
    const sealed = seal(keysOf(key("a")), { plaintext, identity });
    expect(open(keysOf(key("a")), { sealed, identity }).ok).toBe(false);
  });
});
