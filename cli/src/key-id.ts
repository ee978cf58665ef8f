import { z } from "zod";

const SHOWN = /^sk_(?:live|test)_([0-9a-hjkmnp-tv-z]{26})(?:_|$)/;

/** A key named by its id or by the beginning that lists show of it. */
export const keyId = z.string().transform((text) => {
  const match = SHOWN.exec(text);
  return match?.[1] === undefined ? text : `key_${match[1]}`;
});
