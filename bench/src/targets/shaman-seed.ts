import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { createApiKey, createOperatorPrincipal } from "@shaman/access";
import { createGitSource, registerRepository, syncRepository, type GitSource } from "@shaman/agents";
import { createDb, deriveRoleUrls, migrate, type Db, type RoleUrls } from "@shaman/db";
import { Secret, systemClock, unwrap } from "@shaman/kernel";
import { createOutbound, type Outbound } from "@shaman/outbound";
import { migrateJobQueue } from "@shaman/queue";
import { parseScript } from "@shaman/scripts";
import { parseSecretKeys, type SecretKeys } from "@shaman/secrets";
import { createOrganization, updateOrganizationSettings } from "@shaman/tenancy";
import type { Caller } from "../load/protocol.ts";
import type { Postgres } from "../stores.ts";
import { AGENT_NAME, createBenchRepository } from "./bench-repository.ts";
import { readOnce } from "./read-once.ts";

/** A migrated database of the product with its organizations, which nothing is connected to: a template. */
export type SeededDatabase = { readonly database: string; readonly callers: readonly Caller[] };

export type Seeder = {
  /** The template with that many organizations; made at the first request, then given again. */
  readonly seeded: (organizations: number) => Promise<SeededDatabase>;
  /** A copy of the template, with the addresses of the processes' roles. */
  readonly copy: (seeded: SeededDatabase) => Promise<{ readonly database: string; readonly roleUrls: RoleUrls }>;
  readonly secretKeysText: string;
  readonly close: () => Promise<void>;
};

const AT_ONCE = 4;
const ORIGIN = { server: "bench" };

const newKeys = (): string => `bench:${randomBytes(32).toString("base64url")}`;

type SeedDeps = {
  readonly web: Db;
  readonly worker: Db;
  readonly outbound: Outbound;
  readonly git: GitSource;
  readonly secretKeys: SecretKeys;
  readonly repositoryUrl: string;
};

const slugOf = (index: number): string => (index === 0 ? "acme" : `org-${index}`);

/** One organization with the repository's agents live and a key without limits. */
const seedOrganization = async (deps: SeedDeps, slug: string): Promise<Caller> => {
  const services = { db: deps.web, origin: ORIGIN, clock: systemClock };
  const { id: orgId } = unwrap(await createOrganization(services, { actor: "operator:bench", slug, name: slug }));
  const operator = createOperatorPrincipal({ orgId, name: "bench" });
  unwrap(await updateOrganizationSettings(services, operator, { intake: { organizationRatePerSecond: 0 } }));
  const { key } = unwrap(await createApiKey(services, operator, { name: "bench", agents: "*", ratePerSecond: 0 }));
  const repository = { name: "agents", url: deps.repositoryUrl };
  const register = { ...services, secretKeys: deps.secretKeys, checkGitUrl: deps.outbound.checkGitUrl };
  const { repositoryId } = unwrap(await registerRepository(register, operator, repository));
  const { git, secretKeys } = deps;
  const report = unwrap(
    await syncRepository({ db: deps.worker, git, secretKeys, parseScript }, { orgId, repositoryId }),
  );
  if (report.outcome !== "switched") throw new Error(`the bench's repository was not taken: ${JSON.stringify(report)}`);
  return { host: `${slug}.localhost`, path: `/a2a/v1/agents/${AGENT_NAME}`, token: key.reveal() };
};

const seedAll = async (deps: SeedDeps, organizations: number): Promise<Caller[]> => {
  const callers: Caller[] = [];
  for (let begin = 0; begin < organizations; begin += AT_ONCE) {
    const length = Math.min(AT_ONCE, organizations - begin);
    const slugs = Array.from({ length }, (_, offset) => slugOf(begin + offset));
    callers.push(...(await Promise.all(slugs.map((slug) => seedOrganization(deps, slug)))));
  }
  return callers;
};

/** Fills databases through the product's own doors, each once; the processes get copies. */
export const createSeeder = async ({ postgres }: { readonly postgres: Postgres }): Promise<Seeder> => {
  const folder = await mkdtemp(join(tmpdir(), "shaman-bench-seed-"));
  const repository = join(folder, "repository");
  await createBenchRepository(repository);
  const outbound = createOutbound({ allowLoopback: true, mapLocalhost: true, gitFileRoot: folder });
  const git = readOnce(createGitSource({ cacheDir: join(folder, "git"), checkGitUrl: outbound.checkGitUrl }));
  // Roles belong to the server, so all databases of a run must agree on their passwords.
  const roleSecret = new Secret(randomBytes(32).toString("base64url"));
  const secretKeysText = newKeys();
  const secretKeys = parseSecretKeys(secretKeysText);
  if (!secretKeys.ok) throw new Error(secretKeys.error);
  const made = new Map<number, Promise<SeededDatabase>>();

  const make = async (organizations: number): Promise<SeededDatabase> => {
    const { name, url } = await postgres.createDatabase(`seeded_${organizations}`);
    const databaseUrl = new Secret(url);
    const { roleUrls } = await migrate({ databaseUrl, roleSecret });
    await migrateJobQueue({ databaseUrl });
    const open = (role: "web" | "worker"): Db =>
      createDb({ url: roleUrls[role], poolSize: AT_ONCE, name: `bench-${role}`, onError: console.error });
    const [web, worker] = [open("web"), open("worker")];
    const repositoryUrl = pathToFileURL(repository).href;
    const deps = { web, worker, outbound, git, secretKeys: secretKeys.value, repositoryUrl };
    const callers = await seedAll(deps, organizations);
    await Promise.all([web.close(), worker.close()]);
    return { database: name, callers };
  };

  return {
    secretKeysText,
    seeded: (organizations) => {
      const known = made.get(organizations) ?? make(organizations);
      made.set(organizations, known);
      return known;
    },
    copy: async (seeded) => {
      const { name, url } = await postgres.createDatabase("shaman", seeded.database);
      return { database: name, roleUrls: deriveRoleUrls({ databaseUrl: new Secret(url), roleSecret }) };
    },
    close: async () => {
      await outbound.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
};
