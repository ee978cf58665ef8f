import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { Secret } from "@shaman/kernel";
import { z } from "zod";
import { readJsonFile, writeJsonFile } from "./json-file.ts";

/** The secrets of this installation, made once and kept beside its data. */
export type LocalKeys = {
  readonly internalJwtKeys: Secret;
  readonly secretKeys: Secret;
  /** The passwords of the database roles are derived from it. */
  readonly roleSecret: Secret;
};

const KEY_BYTES = 32;

const keysFile = z.object({ internalJwtKeys: z.string(), secretKeys: z.string(), roleSecret: z.string() });

const newKey = (): string => randomBytes(KEY_BYTES).toString("base64url");

/** Reads `keys.json` in the state folder, or makes it with mode 0600. */
export const ensureLocalKeys = (folder: string): LocalKeys => {
  const file = join(folder, "keys.json");
  const known = readJsonFile(file);
  const keys =
    known === undefined
      ? { internalJwtKeys: `local:${newKey()}`, secretKeys: `local:${newKey()}`, roleSecret: newKey() }
      : keysFile.parse(known);
  if (known === undefined) writeJsonFile(file, keys);
  return {
    internalJwtKeys: new Secret(keys.internalJwtKeys),
    secretKeys: new Secret(keys.secretKeys),
    roleSecret: new Secret(keys.roleSecret),
  };
};
