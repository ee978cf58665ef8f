import { createSecretKey, hkdfSync, type KeyObject } from "node:crypto";

import { defineConfig } from "@shaman/config";
import { err, ok, type Result } from "@shaman/kernel";
import { z } from "zod";

/** The keys of this installation: the current one seals, every one opens. */
export type SecretKeys = {
  readonly currentKid: string;
  readonly byKid: ReadonlyMap<string, KeyObject>;
};

const MIN_KEY_BYTES = 32;
const DERIVED_BYTES = 32;
const KID = /^[A-Za-z0-9_-]{1,32}$/;
const BASE64URL = /^[A-Za-z0-9_-]+={0,2}$/;
const PURPOSE = "shaman sealed secrets, aes-256-gcm, 1";

/** Keys of any length become 256 bits, and bytes that also serve elsewhere become another key here. */
const derive = (bytes: Buffer): KeyObject =>
  createSecretKey(Buffer.from(hkdfSync("sha256", bytes, "", PURPOSE, DERIVED_BYTES)));

/**
 * Reads `kid:base64url,kid:base64url,…`, the first one being current. The error is a sentence that names the place,
 * never the key.
 */
export const parseSecretKeys = (text: string): Result<SecretKeys, string> => {
  const byKid = new Map<string, KeyObject>();
  let currentKid: string | undefined;
  for (const [index, entry] of text.split(",").entries()) {
    const place = `key ${index + 1}`;
    const [kid = "", encoded = "", ...rest] = entry.trim().split(":");
    if (!KID.test(kid) || rest.length > 0) {
      return err(`${place} must have the form kid:base64url, with a kid of letters, digits, _ and -`);
    }
    if (byKid.has(kid)) return err(`${place} has the same kid as an earlier one: every kid must be unique`);
    const bytes = BASE64URL.test(encoded) ? Buffer.from(encoded, "base64url") : Buffer.alloc(0);
    if (bytes.length < MIN_KEY_BYTES) {
      return err(`${place} is too short or not base64url: it must hold at least ${MIN_KEY_BYTES} random bytes`);
    }
    byKid.set(kid, derive(bytes));
    currentKid ??= kid;
  }
  if (currentKid === undefined) return err("holds no key");
  return ok({ currentKid, byKid });
};

const secretKeysText = z.string("is missing").transform((text, context): SecretKeys => {
  const parsed = parseSecretKeys(text);
  if (parsed.ok) return parsed.value;
  context.addIssue({ code: "custom", message: parsed.error });
  return z.NEVER;
});

/** Keys that seal stored secrets, for the processes that store or use them. */
export const secretsConfig = defineConfig(
  {
    SHAMAN_SECRET_KEYS: {
      schema: secretKeysText,
      about:
        "keys that seal stored secrets, kid:base64url of at least 32 random bytes, comma-separated; the first one seals",
    },
  },
  (values) => values.SHAMAN_SECRET_KEYS,
);
