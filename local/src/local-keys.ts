import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { Secret } from "@shaman/kernel";
import { z } from "zod";
import { readJsonFile, writeJsonFile } from "./json-file.ts";

/** The secrets of this installation, made once and kept beside its data. */
export type LocalKeys = {
  readonly internalJwtKeys: Secret;
  readonly secretKeys: Secret;
  /** Sign the addresses of stored artifacts. */
  readonly downloadUrlKeys: Secret;
  /** The passwords of the database roles are derived from it. */
  readonly roleSecret: Secret;
};

const KEY_BYTES = 32;

const keysFile = z.object({
  internalJwtKeys: z.string(),
  secretKeys: z.string(),
  /** Not in the files of the first versions. */
  downloadUrlKeys: z.string().optional(),
  roleSecret: z.string(),
});

const newKey = (): string => randomBytes(KEY_BYTES).toString("base64url");

/** Reads `keys.json` in the state folder, or makes it with mode 0600. */
export const ensureLocalKeys = (folder: string): LocalKeys => {
  const file = join(folder, "keys.json");
  const known = readJsonFile(file);
  const before =
    known === undefined
      ? { internalJwtKeys: `local:${newKey()}`, secretKeys: `local:${newKey()}`, roleSecret: newKey() }
      : keysFile.parse(known);
  const downloadUrlKeys = ("downloadUrlKeys" in before ? before.downloadUrlKeys : undefined) ?? `local:${newKey()}`;
  const keys = { ...before, downloadUrlKeys };
  if (JSON.stringify(known) !== JSON.stringify(keys)) writeJsonFile(file, keys);
  return {
    internalJwtKeys: new Secret(keys.internalJwtKeys),
    secretKeys: new Secret(keys.secretKeys),
    downloadUrlKeys: new Secret(keys.downloadUrlKeys),
    roleSecret: new Secret(keys.roleSecret),
  };
};
