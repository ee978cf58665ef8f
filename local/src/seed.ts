import { join } from "node:path";
import type { Env } from "@shaman/config";
import type { Db } from "@shaman/db";
import { AppError } from "@shaman/kernel";
import { createOutbound } from "@shaman/outbound";
import { parseSecretKeys, type SecretKeys } from "@shaman/secrets";
import { ensureExampleRepository } from "./example-repository.ts";
import type { LocalKeys } from "./local-keys.ts";
import { seedOrganization, type SeededOrganization } from "./seed-organization.ts";
import { seedRepository } from "./seed-repository.ts";

const SCENARIO = [
  { slug: "acme", name: "Acme", example: "order-desk" },
  { slug: "techcorp", name: "Techcorp", example: "tax-office" },
] as const;

export type SeedInput = {
  /** As the role of the web process, which manages. */
  readonly db: Db;
  readonly root: string;
  /** The state folder of this copy. */
  readonly folder: string;
  readonly keys: LocalKeys;
  readonly env: Env;
};

export type Seeded = SeededOrganization & {
  /** Name of its repository. */
  readonly repository: string;
  readonly syncRequestedAt: Date;
};

/** Where the local repositories lie; the worker may read `file://` addresses below it, and nowhere else. */
export const repositoriesFolder = (folder: string): string => join(folder, "repos");

export const secretKeysOf = ({ keys, folder }: Pick<SeedInput, "keys" | "folder">): SecretKeys => {
  const secretKeys = parseSecretKeys(keys.secretKeys.reveal());
  if (secretKeys.ok) return secretKeys.value;
  const message = `keys.json in ${folder} is damaged (${secretKeys.error}): wipe it with \`npm run reset\`.`;
  throw new AppError({ code: "keys_damaged", kind: "operational", message });
};

/**
 * Makes sure of the organizations of a fresh installation, each with an owner, a key and a local Git repository made
 * from an example. Run again it changes nothing but what is missing.
 */
export const seed = async (input: SeedInput): Promise<readonly Seeded[]> => {
  const { db, folder, root } = input;
  const secretKeys = secretKeysOf(input);
  const gitFileRoot = repositoriesFolder(folder);
  const outbound = createOutbound({ allowLoopback: true, mapLocalhost: true, gitFileRoot });
  try {
    const seeded: Seeded[] = [];
    for (const { slug, name, example } of SCENARIO) {
      const repository = join(gitFileRoot, slug);
      await ensureExampleRepository({ source: join(root, "examples", example), repository, path: input.env.PATH });
      const organization = await seedOrganization({ db, folder }, { slug, name });
      const place = { orgId: organization.id, name: example, folder: repository };
      const syncRequestedAt = await seedRepository({ db, outbound, secretKeys }, place);
      seeded.push({ ...organization, repository: example, syncRequestedAt });
    }
    return seeded;
  } finally {
    await outbound.close();
  }
};
