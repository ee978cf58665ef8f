const UNSTORABLE = /(?<!\\)((?:\\\\)*)\\u(?:0000|d[89a-f][0-9a-f]{2})/gi;

/** JSON as it comes back from where `toJsonb` sends it. */
export const asStored = <Value>(value: Value): Value =>
  JSON.stringify(value).includes("\\u") ? JSON.parse(toJsonb(value)) : value;

/**
 * JSON text for a jsonb parameter. PostgreSQL stores neither NUL nor lone surrogates, which JSON allows and models
 * produce: each becomes U+FFFD.
 */
export const toJsonb = (value: unknown): string => {
  const text = JSON.stringify(value);
  return text.includes("\\u") ? text.replace(UNSTORABLE, "$1\\ufffd") : text;
};
