const UNSTORABLE = /(?<!\\)((?:\\\\)*)\\u(?:0000|d[89a-f][0-9a-f]{2})/gi;

/** JSON with its texts as they come back from where `toJsonb` sends them. */
export const asStored = <Value>(value: Value): Value =>
  JSON.stringify(value).includes("\\u") ? JSON.parse(toJsonb(value)) : value;

/** The same with the keys of its objects in the order in which jsonb gives them back, for what is written out again. */
export const inStoredOrder = <Value>(value: Value): Value => JSON.parse(JSON.stringify(value), withSortedKeys);

const withSortedKeys = (_key: string, value: unknown): unknown => {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).toSorted(([a], [b]) => compareStored(a, b)));
};

/** Shorter keys come first, equally long ones in the order of their bytes. */
const compareStored = (a: string, b: string): number => {
  const [first, second] = [Buffer.from(a), Buffer.from(b)];
  return first.length - second.length || first.compare(second);
};

/**
 * JSON text for a jsonb parameter. PostgreSQL stores neither NUL nor lone surrogates, which JSON allows and models
 * produce: each becomes U+FFFD.
 */
export const toJsonb = (value: unknown): string => {
  const text = JSON.stringify(value);
  return text.includes("\\u") ? text.replace(UNSTORABLE, "$1\\ufffd") : text;
};
