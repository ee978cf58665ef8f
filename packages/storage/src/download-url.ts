import { createHmac, randomBytes, timingSafeEqual, type KeyObject } from "node:crypto";
import { defineConfig, type ConfigReader } from "@shaman/config";
import { err, unwrap, userError } from "@shaman/kernel";
import { parseSecretKeys, type SecretKeys } from "@shaman/secrets";
import { z } from "zod";

/** Keys that sign addresses of stored content, and nothing else. */
export type DownloadKeys = SecretKeys;

const KEY_BYTES = 32;

const keysText = z
  .string()
  .optional()
  .transform((text, context): DownloadKeys | null => {
    if (text === undefined) return null;
    const parsed = parseSecretKeys(text);
    if (parsed.ok) return parsed.value;
    context.addIssue({ code: "custom", message: parsed.error });
    return z.NEVER;
  });

const variables = {
  DOWNLOAD_URL_KEYS: {
    schema: keysText,
    about:
      "keys that sign addresses of stored artifacts, kid:base64url of at least 32 random bytes, comma-separated; the first one signs",
  },
} as const;

const inner = defineConfig(variables, (env) => env.DOWNLOAD_URL_KEYS);

/**
 * For the public server: null without keys, when it makes some of its own that no other process knows. A bucket says that
 * there may be several processes, so then they must be given.
 */
export const downloadKeysConfig: ConfigReader<DownloadKeys | null> = {
  variables,
  read: (env) => {
    const read = inner.read(env);
    if (!read.ok || read.value !== null || (env["S3_BUCKET"] ?? "") === "") return read;
    return err([`DOWNLOAD_URL_KEYS: is missing, and S3_BUCKET is set (${variables.DOWNLOAD_URL_KEYS.about})`]);
  },
};

/** Reads keys that come from elsewhere than the environment. */
export const readDownloadKeys = parseSecretKeys;

/** Keys for as long as the process lives. */
export const newDownloadKeys = (): DownloadKeys => {
  const parsed = parseSecretKeys(`p:${randomBytes(KEY_BYTES).toString("base64url")}`);
  return unwrap(parsed.ok ? parsed : err(userError("download_keys_invalid", parsed.error)));
};

/** Who may download what until when. */
export type Download = {
  readonly orgId: string;
  readonly objectId: string;
  /** Seconds since 1970. */
  readonly expires: number;
};

const macOf = (key: KeyObject, { orgId, objectId, expires }: Download): Buffer =>
  createHmac("sha256", key).update(`shaman download 1\n${orgId}\n${objectId}\n${expires}`).digest();

/** The signature of a download, with the name of the key that made it. */
export const signDownload = (keys: DownloadKeys, download: Download): string => {
  const key = keys.byKid.get(keys.currentKid);
  if (key === undefined) throw new TypeError("The current key is missing");
  return `${keys.currentKid}.${macOf(key, download).toString("base64url")}`;
};

/** Whether this signature allows this download now. */
export const isDownloadAllowed = (
  keys: DownloadKeys,
  download: Download & { readonly signature: string; readonly nowMs: number },
): boolean => {
  const [kid = "", mac = "", ...rest] = download.signature.split(".");
  const key = keys.byKid.get(kid);
  if (key === undefined || rest.length > 0) return false;
  const [expected, given] = [macOf(key, download), Buffer.from(mac, "base64url")];
  // Decoding forgives, so the text is compared too: one signature has one spelling.
  const isRight = given.length === expected.length && timingSafeEqual(given, expected);
  return isRight && expected.toString("base64url") === mac && download.nowMs < download.expires * 1_000;
};
