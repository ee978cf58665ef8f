import { defineConfig } from "@shaman/config";
import { err, ok, Secret, type Result } from "@shaman/kernel";
import { z } from "zod";

export type InternalJwtKey = { readonly kid: string; readonly key: Secret };

/** The first one signs; both verify, so that a new key can be brought in while tokens of the old one are under way. */
export type InternalJwtKeys = readonly [InternalJwtKey, InternalJwtKey?];

const MIN_KEY_BYTES = 32;
const KID = /^[A-Za-z0-9._-]{1,64}$/;
const BASE64URL = /^[A-Za-z0-9_-]+$/;

/** Reads `kid:base64url,kid:base64url`. The error is a sentence without any part of a key. */
export const parseInternalJwtKeys = (text: string): Result<InternalJwtKeys, string> => {
  const keys: InternalJwtKey[] = [];
  for (const [index, entry] of text.split(",").entries()) {
    const [kid = "", encoded = "", ...rest] = entry.trim().split(":");
    const nth = `key ${index + 1}`;
    if (!KID.test(kid) || rest.length > 0) return err(`${nth} must have the form kid:base64url`);
    if (!BASE64URL.test(encoded)) return err(`${nth} must be base64url (A-Z, a-z, 0-9, - and _) after its kid`);
    if (Buffer.from(encoded, "base64url").length < MIN_KEY_BYTES) {
      return err(
        `${nth} is shorter than ${MIN_KEY_BYTES} bytes: make one with "openssl rand -base64 48 | tr '+/' '-_'"`,
      );
    }
    if (keys.some((key) => key.kid === kid)) return err(`two keys are called ${kid}: give each its own kid`);
    keys.push({ kid, key: new Secret(encoded) });
  }
  const [first, second, ...more] = keys;
  if (first === undefined) return err("holds no key");
  if (more.length > 0) return err("holds more than two keys: keep the one that signs and the one before it");
  return ok(second === undefined ? [first] : [first, second]);
};

const keysText = z
  .string("is missing: worker and internal server need the same keys, kid:base64url with at least 32 random bytes each")
  .transform((text, context) => {
    const keys = parseInternalJwtKeys(text);
    if (keys.ok) return keys.value;
    context.addIssue({ code: "custom", message: keys.error });
    return z.NEVER;
  });

const about = "keys that sign what the worker asks of the internal server, kid:base64url,…, the first one signs";

/** For worker and internal server: the keys. */
export const internalJwtConfig = defineConfig({ INTERNAL_JWT_KEYS: { schema: keysText, about } }, (env) => ({
  keys: env.INTERNAL_JWT_KEYS,
}));

/** For public server and web: there must be none, so that neither could mint an internal token if it were taken over. */
export const noInternalJwtConfig = defineConfig(
  {
    INTERNAL_JWT_KEYS: {
      schema: z.undefined("must not be set for this process: only the worker and the internal server may hold keys"),
      about,
    },
  },
  () => null,
);
