import { open } from "node:fs/promises";

import { formatProblem } from "@shaman/agents";
import { err, ok, toAppError, type Result } from "@shaman/kernel";

import type { Catalogue } from "./catalogue-entry.ts";
import { readCatalogue } from "./read-catalogue.ts";

const MAX_FILE_BYTES = 1024 * 1024;
const OTHERS_MAY_READ = 0o004;

type Text = { readonly file: string; readonly text: string };

const readText = async (path: string, options: { readonly isSecret: boolean }): Promise<Result<Text, string>> => {
  try {
    await using file = await open(path);
    const { size, mode } = await file.stat();
    if (size > MAX_FILE_BYTES) return err(`${path} is larger than 1 MB`);
    if (options.isSecret && (mode & OTHERS_MAY_READ) !== 0) {
      return err(`${path} holds secrets and every user of this machine may read it: chmod o-r it`);
    }
    return ok({ file: path, text: await file.readFile("utf8") });
  } catch (error) {
    return err(`${path} cannot be read: ${toAppError(error).message}`);
  }
};

/** Reads the operator's catalogue from its files. Errors are sentences, all problems at once; no path, no servers. */
export const loadCatalogue = async (paths: {
  readonly cataloguePath: string | undefined;
  readonly secretsPath: string | undefined;
}): Promise<Result<Catalogue, readonly string[]>> => {
  const { cataloguePath, secretsPath } = paths;
  if (cataloguePath === undefined) return ok(new Map());
  const catalogue = await readText(cataloguePath, { isSecret: false });
  const secrets = secretsPath === undefined ? undefined : await readText(secretsPath, { isSecret: true });
  if (!catalogue.ok || secrets?.ok === false) {
    return err([catalogue, secrets].flatMap((read) => (read === undefined || read.ok ? [] : [read.error])));
  }
  const read = readCatalogue({ catalogue: catalogue.value, ...(secrets && { secrets: secrets.value }) });
  return read.ok ? read : err(read.error.map(formatProblem));
};
