import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { deriveRoleUrls } from "@shaman/db";
import { AppError, Secret, userError } from "@shaman/kernel";
import { z } from "zod";

/** What a running `npm start` of this checkout left for scripts. */
export type LocalState = {
  readonly folder: string;
  /** PostgreSQL as the role of the web process, which may manage everything. */
  readonly databaseUrl: Secret;
  readonly redisUrl: Secret | undefined;
  readonly secretKeys: Secret;
  readonly downloadUrlKeys: Secret | undefined;
  readonly publicUrl: string;
  readonly internalUrl: string;
  readonly processes: readonly { readonly name: string; readonly pid: number }[];
};

const localFile = z.object({
  public: z.url(),
  internal: z.url(),
  databaseUrl: z.string(),
  redisUrl: z.string().optional(),
  processes: z.array(z.object({ name: z.string(), pid: z.number() })),
});
const keysFile = z.object({
  secretKeys: z.string(),
  downloadUrlKeys: z.string().optional(),
  roleSecret: z.string(),
});

const read = <T>(file: string, schema: z.ZodType<T>): T => {
  try {
    return schema.parse(JSON.parse(readFileSync(file, "utf8")));
  } catch (cause) {
    const message = `${file} cannot be read: stop npm start, start it again, and it is written anew.`;
    throw new AppError({ code: "local_state_unreadable", kind: "operational", message, cause });
  }
};

const readFolder = (folder: string): LocalState => {
  const local = read(join(folder, "local.json"), localFile);
  const keys = read(join(folder, "keys.json"), keysFile);
  const roleUrls = deriveRoleUrls({
    databaseUrl: new Secret(local.databaseUrl),
    roleSecret: new Secret(keys.roleSecret),
  });
  return {
    folder,
    databaseUrl: roleUrls.web,
    redisUrl: local.redisUrl === undefined ? undefined : new Secret(local.redisUrl),
    secretKeys: new Secret(keys.secretKeys),
    downloadUrlKeys: keys.downloadUrlKeys === undefined ? undefined : new Secret(keys.downloadUrlKeys),
    publicUrl: local.public,
    internalUrl: local.internal,
    processes: local.processes,
  };
};

/**
 * The copy of `npm start` that runs on this checkout; with `port` the one on these ports where several run. Undefined
 * when none runs.
 */
export const findLocalState = (root: string, port?: number): LocalState | undefined => {
  const shaman = join(root, ".shaman");
  const copies = existsSync(shaman) ? readdirSync(shaman).filter((name) => name.startsWith("port-")) : [];
  const folders = [shaman, ...copies.map((name) => join(shaman, name))];
  const states = folders.filter((folder) => existsSync(join(folder, "local.json"))).map(readFolder);
  if (port === undefined) return states[0];
  const found = states.find((state) => new URL(state.publicUrl).port === String(port));
  if (found !== undefined) return found;
  throw userError("copy_not_found", `No copy of npm start runs on port ${port} in this checkout.`);
};
