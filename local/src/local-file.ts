import { rmSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { readJsonFile, writeJsonFile } from "./json-file.ts";

/** What `.shaman/local.json` says, so that scripts and tests find what runs. It holds secrets: mode 0600. */
const localFile = z.object({
  public: z.string(),
  internal: z.string(),
  /** PostgreSQL as the role of the public process. */
  databaseUrl: z.string(),
  redisUrl: z.string().optional(),
  processes: z.array(z.object({ name: z.string(), pid: z.number() })),
  organizations: z.array(
    z.object({
      id: z.string(),
      slug: z.string(),
      /** As sent in the Host header. */
      host: z.string(),
      apiKey: z.string(),
      /** Names of the exposed agents. */
      agents: z.array(z.string()),
      user: z.object({ email: z.string(), password: z.string() }),
    }),
  ),
});
export type LocalFile = z.infer<typeof localFile>;

const fileIn = (folder: string): string => join(folder, "local.json");

export const writeLocalFile = (folder: string, content: LocalFile): void => writeJsonFile(fileIn(folder), content);

/** What a copy that did not stop by itself left behind; `undefined` when there is nothing, or nothing readable. */
export const readLocalFile = (folder: string): LocalFile | undefined => {
  try {
    return localFile.safeParse(readJsonFile(fileIn(folder))).data;
  } catch {
    // Not JSON: nothing that we wrote.
    return undefined;
  }
};

export const removeLocalFile = (folder: string): void => rmSync(fileIn(folder), { force: true });
