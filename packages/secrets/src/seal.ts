import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";

import { AppError, err, ok, Secret, type Result } from "@shaman/kernel";

import type { SecretKeys } from "./secret-keys.ts";

const ALGORITHM = "aes-256-gcm";
const FORMAT = "v1";
/** The nonce length GCM is made for (NIST SP 800-38D, 8.2.2: random nonces for fewer than 2^32 seals a key). */
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** Neither a format nor a kid holds a colon, so that two different places never give the same text. */
const associatedData = (kid: string, identity: string): Buffer => Buffer.from(`shaman:${FORMAT}:${kid}:${identity}`);

/** The identity under which a row of the `secret` table is sealed. */
export const secretIdentity = (row: { readonly orgId: string; readonly secretId: string }): string =>
  `secret:${row.orgId}:${row.secretId}`;

/**
 * Seals a secret for one row: `identity` names that row (organization and id), and the same is needed to open it, so
 * that a sealed value copied to another row is worthless. Gives text to store.
 */
export const seal = (keys: SecretKeys, input: { readonly plaintext: Secret; readonly identity: string }): string => {
  const kid = keys.currentKid;
  const key = keys.byKid.get(kid);
  if (!key) {
    throw new AppError({ code: "secret_key_unknown", kind: "unexpected", message: "The current key is missing." });
  }
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv(ALGORITHM, key, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(associatedData(kid, input.identity));
  const sealed = Buffer.concat([
    nonce,
    cipher.update(input.plaintext.reveal(), "utf8"),
    cipher.final(),
    cipher.getAuthTag(),
  ]);
  return `${FORMAT}.${kid}.${sealed.toString("base64url")}`;
};

const unreadable = (cause?: unknown): AppError =>
  new AppError({
    code: "secret_unreadable",
    kind: "unexpected",
    message: "A sealed secret cannot be opened: it was altered, or it belongs to another row.",
    ...(cause === undefined ? {} : { cause }),
  });

/**
 * Opens what `seal` gave. Errors: `secret_key_unknown` when its key is no longer configured, `secret_unreadable` when it
 * was altered or sealed for another identity.
 */
export const open = (
  keys: SecretKeys,
  input: { readonly sealed: string; readonly identity: string },
): Result<Secret> => {
  const [format, kid = "", body = "", ...rest] = input.sealed.split(".");
  if (format !== FORMAT || rest.length > 0) return err(unreadable());
  const key = keys.byKid.get(kid);
  if (!key) {
    return err(
      new AppError({
        code: "secret_key_unknown",
        kind: "operational",
        message: `A secret is sealed with key "${kid}", which SHAMAN_SECRET_KEYS does not hold: add it again behind the current one.`,
      }),
    );
  }
  const bytes = Buffer.from(body, "base64url");
  if (bytes.length < NONCE_BYTES + TAG_BYTES) return err(unreadable());
  try {
    const decipher = createDecipheriv(ALGORITHM, key, bytes.subarray(0, NONCE_BYTES), { authTagLength: TAG_BYTES });
    decipher.setAAD(associatedData(kid, input.identity));
    decipher.setAuthTag(bytes.subarray(-TAG_BYTES));
    const text = decipher.update(bytes.subarray(NONCE_BYTES, -TAG_BYTES), undefined, "utf8") + decipher.final("utf8");
    return ok(new Secret(text));
  } catch (cause) {
    return err(unreadable(cause));
  }
};

/** Whether a sealed value should be sealed anew because the current key is another one. */
export const needsResealing = (keys: SecretKeys, sealed: string): boolean => sealed.split(".")[1] !== keys.currentKid;
