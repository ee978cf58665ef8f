import { isJsonObject, type Json, type JsonObject } from "@shaman/kernel";

const UNSTORABLE = /(?<!\\)((?:\\\\)*)\\u(?:0000|d[89a-f][0-9a-f]{2})/gi;

/** JSON with its texts as they come back from where `toJsonb` sends them. */
export const asStored = <Value>(value: Value): Value =>
  JSON.stringify(value).includes("\\u") ? JSON.parse(toJsonb(value)) : value;

/** The same with the keys of its objects in the order in which jsonb gives them back, for what is written out again. */
export const inStoredOrder = (value: JsonObject): JsonObject => {
  const entries = Object.entries(value).toSorted(([a], [b]) => compareStored(a, b));
  return Object.fromEntries(entries.map(([key, each]) => [key, inOrder(each)]));
};

const inOrder = (value: Json): Json => {
  if (isJsonObject(value)) return inStoredOrder(value);
  return typeof value === "object" && value !== null ? value.map(inOrder) : value;
};

/** Shorter keys come first, equally long ones in the order of their bytes. */
const compareStored = (a: string, b: string): number =>
  Buffer.byteLength(a) - Buffer.byteLength(b) || Buffer.compare(Buffer.from(a), Buffer.from(b));

/**
 * JSON text for a jsonb parameter. PostgreSQL stores neither NUL nor lone surrogates, which JSON allows and models
 * produce: each becomes U+FFFD.
 */
export const toJsonb = (value: unknown): string => {
  const text = JSON.stringify(value);
  return text.includes("\\u") ? text.replace(UNSTORABLE, "$1\\ufffd") : text;
};
