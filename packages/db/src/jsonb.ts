const UNSTORABLE = /(?<!\\)((?:\\\\)*)\\u(?:0000|d[89a-f][0-9a-f]{2})/gi;

/** JSON as it comes back from where `toJsonb` sends it: its texts cleaned, the keys of its objects in jsonb's order. */
export const asStored = <Value>(value: Value): Value => JSON.parse(toJsonb(value), inStoredOrder);

const inStoredOrder = (_key: string, value: unknown): unknown => {
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
