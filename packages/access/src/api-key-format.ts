import { createHash, randomBytes } from "node:crypto";
import { crc32 } from "node:zlib";
import { isId, Secret } from "@shaman/kernel";

export type ApiKeyMode = "live" | "test";

export type ParsedApiKey = { readonly keyId: string; readonly mode: ApiKeyMode };

const ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz";
const SECRET_BYTES = 32;
const SECRET_CHARS = 52;
const CHECKSUM_CHARS = 7;
const FORM = /^sk_(live|test)_([0-9a-hjkmnp-tv-z]{26})_[0-9a-hjkmnp-tv-z]{59}$/;
const KEY_CHARS = "sk_live_".length + 26 + 1 + SECRET_CHARS + CHECKSUM_CHARS;

/** Letters and digits only, so that a double click selects the whole key. */
const base32 = (bytes: Uint8Array): string => {
  let text = "";
  let bits = 0;
  let held = 0;
  for (const byte of bytes) {
    held = (held << 8) | byte;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += ALPHABET.charAt((held >>> bits) & 31);
    }
    held &= (1 << bits) - 1;
  }
  return bits > 0 ? text + ALPHABET.charAt((held << (5 - bits)) & 31) : text;
};

const checksum = (text: string): string => {
  let rest = crc32(text);
  let sum = "";
  for (let i = 0; i < CHECKSUM_CHARS; i += 1) {
    sum = ALPHABET.charAt(rest & 31) + sum;
    rest >>>= 5;
  }
  return sum;
};

/** The part of a key that lists may show: it names the key and says nothing of its secret. */
export const apiKeyPrefix = (parsed: ParsedApiKey): string => `sk_${parsed.mode}_${parsed.keyId.slice("key_".length)}`;

/** A new key for this id: mode and id in the open, 256 random bits, and a checksum over all of it. */
export const makeApiKey = (parsed: ParsedApiKey): Secret => {
  const body = `${apiKeyPrefix(parsed)}_${base32(randomBytes(SECRET_BYTES))}`;
  return new Secret(body + checksum(body));
};

/** Reads a presented key; undefined when it is none or has a typo, which the checksum tells without a query. */
export const parseApiKey = (presented: string): ParsedApiKey | undefined => {
  if (presented.length !== KEY_CHARS) return undefined;
  const match = FORM.exec(presented);
  if (match === null) return undefined;
  const body = presented.slice(0, -CHECKSUM_CHARS);
  if (checksum(body) !== presented.slice(-CHECKSUM_CHARS)) return undefined;
  const keyId = `key_${match[2] ?? ""}`;
  return isId("key", keyId) ? { keyId, mode: match[1] === "test" ? "test" : "live" } : undefined;
};

/** What is stored of a key. The key is random, so that one round of SHA-256 cannot be guessed back. */
export const hashApiKey = (key: string): Buffer => createHash("sha256").update(key).digest();
