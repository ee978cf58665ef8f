import { join } from "node:path";
import type { Env } from "@shaman/config";
import { createDb, migrate, type Db, type RoleUrls } from "@shaman/db";
import { Secret, toAppError } from "@shaman/kernel";
import { migrateJobQueue } from "@shaman/queue";
import type { LocalConfig } from "./config.ts";
import { startExampleTools, type ExampleTools } from "./example-tools.ts";
import { stopLeftovers } from "./leftovers.ts";
import { readLocalFile, removeLocalFile, writeLocalFile, type LocalFile } from "./local-file.ts";
import { ensureLocalKeys, type LocalKeys } from "./local-keys.ts";
import { isPortFree, portTaken, type Ports } from "./ports.ts";
import { builtInPostgres, ourPrograms } from "./programs.ts";
import { seedConnections } from "./seed-connections.ts";
import { waitForAgents } from "./seed-repository.ts";
import { secretKeysOf, seed, type Seeded } from "./seed.ts";
import { takeStateFolder } from "./state-folder.ts";
import { createSupervisor, type Supervisor } from "./supervisor.ts";
import { welcome } from "./welcome.ts";

export type LauncherInput = {
  readonly root: string;
  readonly ports: Ports;
  readonly config: LocalConfig;
  readonly env: Env;
  readonly log: (name: string, line: string) => void;
  /** How long the first sync of the example agents may take. */
  readonly syncTimeoutMs?: number;
};

type StartedDatabase = {
  readonly db: Db;
  readonly seeded: readonly Seeded[];
  readonly roleUrls: RoleUrls;
  readonly keys: LocalKeys;
};

export type Launcher = {
  /** Starts everything in order. Rejects with an error whose message says what to do. */
  readonly start: () => Promise<void>;
  /** Stops what was started, in reverse order. May be called at any time and more than once. */
  readonly stop: () => Promise<void>;
};

const LAUNCHER_NAME = "shaman";
const SYNC_TIMEOUT_MS = 30_000;

const assertPortsFree = async (ports: Ports): Promise<void> => {
  const uses = [
    ["the public A2A server", ports.public],
    ["the internal A2A server", ports.internal],
    ["the worker's health page", ports.workerHealth],
    ["the MCP server of the examples", ports.tools],
  ] as const;
  for (const [use, port] of uses) if (!(await isPortFree(port))) throw portTaken(use, port, ports);
};

/** Everything on this machine, as `npm start` runs it. */
export const createLauncher = (input: LauncherInput): Launcher => {
  const { ports, log } = input;
  const say = (line: string): void => log(LAUNCHER_NAME, line);
  const state = takeStateFolder(join(input.root, ".shaman"), ports.public);
  let local: LocalFile | undefined;
  const stopping = new AbortController();
  let starting: Promise<void> | undefined;
  let tools: ExampleTools | undefined;

  const supervisor: Supervisor = createSupervisor({ log, onReplaced: () => local && save(local) });
  const save = (content: LocalFile): void => {
    const processes = supervisor.processes().filter(({ name }) => name !== "postgres");
    local = { ...content, processes: [...processes] };
    writeLocalFile(state.folder, local);
  };

  const startDatabase = async (): Promise<Secret> => {
    if (input.config.databaseUrl !== undefined) return input.config.databaseUrl;
    const postgres = builtInPostgres({ dir: join(state.folder, "postgres"), ports, log });
    await supervisor.start(postgres.service);
    return new Secret(postgres.url());
  };

  /** Starts our programs; the worker's first sync of the agents is waited for before callers are let in. */
  const startPrograms = async (content: LocalFile, started: StartedDatabase): Promise<LocalFile> => {
    const { db, seeded, roleUrls, keys } = started;
    const programs = ourPrograms({ ...input, folder: state.folder, roleUrls, keys });
    let current = content;
    for (const program of programs.inside) {
      await supervisor.start(program);
      save(current);
    }
    const agents = await Promise.all(
      seeded.map(({ id, repository, syncRequestedAt: since }) => {
        const timeoutMs = input.syncTimeoutMs ?? SYNC_TIMEOUT_MS;
        return waitForAgents(
          { db, log: say },
          { orgId: id, name: repository, since, timeoutMs, signal: stopping.signal },
        );
      }),
    );
    current = {
      ...content,
      organizations: content.organizations.map((each, index) => ({ ...each, agents: agents[index] ?? [] })),
    };
    await supervisor.start(programs.public);
    save(current);
    await connectExamples(started);
    return current;
  };

  /** The first organization's order desk gets its tools, and the second one's agent as its partner. */
  const connectExamples = async ({ db, seeded, keys }: StartedDatabase): Promise<void> => {
    const [shop, partner] = seeded;
    if (shop === undefined || partner === undefined || tools === undefined) return;
    const cardUrl = `http://${partner.slug}.localhost:${ports.public}/.well-known/agent-card.json`;
    const connections = { toolsUrl: tools.url, partner: { cardUrl, apiKey: partner.apiKey } };
    const secretKeys = secretKeysOf({ keys, folder: state.folder });
    await seedConnections({ db, secretKeys, orgId: shop.id, ...connections }).catch((error: unknown) =>
      say(`The examples' tools and partner could not be registered: ${toAppError(error).message}`),
    );
  };

  const startAll = async (): Promise<void> => {
    await stopLeftovers(readLocalFile(state.folder)?.processes ?? [], { root: input.root, log: say });
    await assertPortsFree(ports);
    tools = await startExampleTools(ports.tools);
    const keys = ensureLocalKeys(state.folder);
    const databaseUrl = await startDatabase();
    const { applied, roleUrls } = await migrate({ databaseUrl, roleSecret: keys.roleSecret });
    if (applied.length > 0) say(`The database was brought up to date (${applied.join(", ")}).`);
    await migrateJobQueue({ databaseUrl });
    const onError = (error: Error): void => say(`database: ${error.message}`);
    const db = createDb({ url: roleUrls.web, poolSize: 2, name: "shaman-local", onError });
    try {
      const seeded = await seed({ ...input, db, folder: state.folder, keys });
      const content: LocalFile = {
        public: `http://127.0.0.1:${ports.public}`,
        internal: `http://127.0.0.1:${ports.internal}`,
        databaseUrl: roleUrls.public.reveal(),
        ...(input.config.redisUrl !== undefined && { redisUrl: input.config.redisUrl }),
        processes: [],
        organizations: seeded.map(({ id, slug, apiKey, user }) => {
          return { id, slug, host: `${slug}.localhost:${ports.public}`, apiKey, agents: [], user };
        }),
      };
      say(welcome(await startPrograms(content, { db, seeded, roleUrls, keys }), state.folder));
    } finally {
      await db.close();
    }
  };

  return {
    start: () => (starting ??= startAll()),
    stop: async () => {
      stopping.abort();
      await supervisor.stop();
      await starting?.catch(() => undefined);
      await tools?.close();
      removeLocalFile(state.folder);
      state.release();
    },
  };
};
