import { join } from "node:path";
import type { Env } from "@shaman/config";
import type { RoleUrls } from "@shaman/db";
import { AppError } from "@shaman/kernel";
import { startPostgres } from "@shaman/postgres-embedded";
import type { LocalConfig } from "./config.ts";
import type { LocalKeys } from "./local-keys.ts";
import { nodeProgram } from "./node-program.ts";
import { portTaken, type Ports } from "./ports.ts";
import { repositoriesFolder } from "./seed.ts";
import type { Service } from "./supervisor.ts";

export type ProgramsInput = {
  readonly root: string;
  readonly ports: Ports;
  readonly roleUrls: RoleUrls;
  readonly keys: LocalKeys;
  /** The state folder of this copy. */
  readonly folder: string;
  readonly config: LocalConfig;
  /** The environment of `npm start`, passed on but for what is decided here. */
  readonly env: Env;
  readonly log: (name: string, line: string) => void;
};

/** What only the processes named here may know; a value in the environment of `npm start` reaches nobody else. */
const DECIDED_HERE = {
  DATABASE_URL: undefined,
  INTERNAL_JWT_KEYS: undefined,
  SHAMAN_SECRET_KEYS: undefined,
  DOWNLOAD_URL_KEYS: undefined,
};

/** Our three processes: those inside in the order in which they start, and the one that callers reach. */
export const ourPrograms = (
  input: ProgramsInput,
): { readonly inside: readonly Service[]; readonly public: Service } => {
  const { root, ports, roleUrls, keys, log } = input;
  const common = {
    NODE_ENV: "development",
    ARTIFACT_DIR: join(input.folder, "artifacts"),
    ...input.env,
    ...DECIDED_HERE,
    REDIS_URL: input.config.redisUrl,
    BASE_DOMAIN: "localhost",
    PUBLIC_URL_TEMPLATE: `http://{org}.localhost:${ports.public}`,
  };
  const internalUrl = `http://127.0.0.1:${ports.internal}`;
  const trusted = {
    ...common,
    INTERNAL_URL: internalUrl,
    INTERNAL_JWT_KEYS: keys.internalJwtKeys.reveal(),
    SHAMAN_SECRET_KEYS: keys.secretKeys.reveal(),
  };
  const a2a = join(root, "a2a", "src", "main.ts");
  const internal = nodeProgram({
    name: "a2a-internal",
    main: a2a,
    args: ["--role", "internal", "--port", String(ports.internal)],
    env: { ...trusted, DATABASE_URL: roleUrls.internal.reveal() },
    readyUrl: `${internalUrl}/ready`,
    log,
  });
  const worker = nodeProgram({
    name: "worker",
    main: join(root, "worker", "src", "main.ts"),
    args: [],
    env: {
      ...trusted,
      DATABASE_URL: roleUrls.worker.reveal(),
      WORKER_HEALTH_PORT: String(ports.workerHealth),
      GIT_CACHE_DIR: join(input.folder, "git"),
      GIT_FILE_ROOT: repositoriesFolder(input.folder),
    },
    readyUrl: `http://127.0.0.1:${ports.workerHealth}/ready`,
    log,
  });
  const publicServer = nodeProgram({
    name: "a2a-public",
    main: a2a,
    args: ["--role", "public", "--port", String(ports.public)],
    env: {
      ...common,
      DATABASE_URL: roleUrls.public.reveal(),
      DOWNLOAD_URL_KEYS: keys.downloadUrlKeys.reveal(),
    },
    readyUrl: `http://127.0.0.1:${ports.public}/ready`,
    log,
  });
  return { inside: [internal, worker], public: publicServer };
};

export type BuiltInPostgres = { readonly service: Service; readonly url: () => string };

/** The built-in PostgreSQL as a service. `url` is the owner's, known once it is ready. */
export const builtInPostgres = (input: {
  readonly dir: string;
  readonly ports: Ports;
  readonly log: (name: string, line: string) => void;
}): BuiltInPostgres => {
  const state = { url: "" };
  const service: Service = {
    name: "postgres",
    spawn: async () => {
      const log = (line: string): void => input.log("postgres", line);
      const started = startPostgres({ dir: input.dir, port: input.ports.postgres, log });
      const running = await started.catch((error: unknown) => {
        const taken = error instanceof AppError && error.code === "port_taken";
        throw taken ? portTaken("PostgreSQL", input.ports.postgres, input.ports) : error;
      });
      state.url = running.url;
      return { pid: running.pid, exited: running.exited.then(() => "ended"), stop: running.stop };
    },
    ready: async (signal) => signal.throwIfAborted(),
  };
  return { service, url: () => state.url };
};
