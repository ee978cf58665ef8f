import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";

/** What the file holds, or `undefined` when it does not exist. Throws when it is not JSON. */
export const readJsonFile = (file: string): unknown =>
  existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : undefined;

/** Replaces the file at once, so that a reader sees the old or the new text; only its owner may read it. */
export const writeJsonFile = (file: string, value: unknown): void => {
  const fresh = `${file}.${randomBytes(4).toString("hex")}`;
  writeFileSync(fresh, `${JSON.stringify(value, null, 2)}\n`, { mode: 0o600 });
  renameSync(fresh, file);
};
