import { randomFillSync } from "node:crypto";

/** Every kind of thing that has an id of its own. The id begins with the kind and an underscore. */
export const ID_KINDS = [
  "org",
  "user",
  "key",
  "repo",
  "agent",
  "run",
  "task",
  "step",
  "art",
  "mcp",
  "ext",
  "hook",
  "evt",
  "ctx",
  "msg",
  "cmd",
  "secret",
  "grant",
  "audit",
  "req",
] as const;
export type IdKind = (typeof ID_KINDS)[number];

const ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz";
const TIME_CHARS = 10;
const RANDOM_CHARS = 16;
const POOL_BYTES = 4096;

const pool = new Uint8Array(POOL_BYTES);
let poolAt = POOL_BYTES;

/** Unguessable text of this many characters, each worth 5 bits. Far cheaper than asking for a few random bytes each time. */
export const randomText = (count: number): string => {
  if (poolAt + count > POOL_BYTES) {
    randomFillSync(pool);
    poolAt = 0;
  }
  let text = "";
  for (let i = 0; i < count; i += 1) text += ALPHABET.charAt((pool[poolAt + i] ?? 0) & 31);
  poolAt += count;
  return text;
};

const timeChars = (atMs: number): string => {
  let text = "";
  let rest = atMs;
  for (let i = 0; i < TIME_CHARS; i += 1) {
    text = ALPHABET.charAt(rest % 32) + text;
    rest = Math.floor(rest / 32);
  }
  return text;
};

/** A new id such as `run_01kb…`: 48 bits of milliseconds, then 80 random bits, so that ids sort by creation time. */
export const newId = (kind: IdKind, atMs: number = Date.now()): string =>
  `${kind}_${timeChars(atMs)}${randomText(RANDOM_CHARS)}`;

/** Whether `text` has the form of an id of this kind; says nothing about existence. */
export const isId = (kind: IdKind, text: string): boolean =>
  text.length === kind.length + 1 + TIME_CHARS + RANDOM_CHARS &&
  text.startsWith(`${kind}_`) &&
  /^[0-9a-hjkmnp-tv-z]+$/.test(text.slice(kind.length + 1));
