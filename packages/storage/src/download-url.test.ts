import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import {
  downloadKeysConfig,
  isDownloadAllowed,
  newDownloadKeys,
  signDownload,
  type DownloadKeys,
} from "./download-url.ts";

const keyText = (kid: string): string => `${kid}:${randomBytes(32).toString("base64url")}`;
const read = (env: Record<string, string>): DownloadKeys => {
  const keys = downloadKeysConfig.read(env);
  if (!keys.ok || keys.value === null) throw new Error("no keys");
  return keys.value;
};

const DOWNLOAD = { orgId: "org_a", objectId: "art_b", expires: 1_000 };
const NOW_MS = 999_999;

test("a signature allows its own download until its end, and nothing else", () => {
  const keys = newDownloadKeys();
  const signature = signDownload(keys, DOWNLOAD);
  const allows = (change: Partial<typeof DOWNLOAD & { signature: string; nowMs: number }>): boolean =>
    isDownloadAllowed(keys, { ...DOWNLOAD, signature, nowMs: NOW_MS, ...change });
  expect(allows({})).toBe(true);
  expect(allows({ nowMs: 1_000_000 })).toBe(false);
  expect(allows({ orgId: "org_b" })).toBe(false);
  expect(allows({ objectId: "art_c" })).toBe(false);
  expect(allows({ expires: 1_001 })).toBe(false);
  for (const wrong of ["", ".", signature.slice(1), `${signature}=`, `${signature}.x`, signature.split(".")[1] ?? ""]) {
    expect(allows({ signature: wrong }), wrong).toBe(false);
  }
  expect(isDownloadAllowed(newDownloadKeys(), { ...DOWNLOAD, signature, nowMs: NOW_MS })).toBe(false);
});

test("addresses of the key before the current one still work", () => {
  const [older, newer] = [keyText("a"), keyText("b")];
  const signature = signDownload(read({ DOWNLOAD_URL_KEYS: older }), DOWNLOAD);
  const both = read({ DOWNLOAD_URL_KEYS: `${newer},${older}` });
  expect(isDownloadAllowed(both, { ...DOWNLOAD, signature, nowMs: NOW_MS })).toBe(true);
  expect(signDownload(both, DOWNLOAD)).toMatch(/^b\./);
});

test("keys are asked for where a bucket says that there may be several processes, and no short ones are taken", () => {
  expect(downloadKeysConfig.read({})).toEqual({ ok: true, value: null });
  const missing = downloadKeysConfig.read({ S3_BUCKET: "artifacts" });
  expect(missing.ok ? [] : missing.error).toEqual([expect.stringMatching(/^DOWNLOAD_URL_KEYS: is missing/)]);
  expect(downloadKeysConfig.read({ DOWNLOAD_URL_KEYS: "a:short" }).ok).toBe(false);
});
