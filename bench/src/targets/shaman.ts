import { randomBytes } from "node:crypto";
import { request } from "undici";
import { freePort, serverProcess, startProcess, type RunningProcess } from "../processes.ts";
import { startRedis, type Postgres } from "../stores.ts";
import type { Seeder } from "./shaman-seed.ts";
import { ANSWER_PROMPT, ANSWER_TEXT, stopAll, type Backend, type Target } from "./target.ts";

const a2a = new URL("../../../a2a/src/main.ts", import.meta.url);
const worker = new URL("../../../worker/src/main.ts", import.meta.url);

const READY_TIMEOUT_MS = 2_000;

const isReadyAt = async (port: number): Promise<boolean> => {
  try {
    const options = { headersTimeout: READY_TIMEOUT_MS, bodyTimeout: READY_TIMEOUT_MS };
    const { statusCode, body } = await request(`http://127.0.0.1:${port}/ready`, options);
    await body.dump();
    return statusCode === 200;
  } catch {
    return false;
  }
};

type Ports = { readonly public: number; readonly internal: number; readonly health: number };

const environments = (ports: Ports, input: { readonly redisUrl: string | undefined; readonly secretKeys: string }) => {
  const common = {
    ...(input.redisUrl !== undefined && { REDIS_URL: input.redisUrl }),
    PUBLIC_URL_TEMPLATE: `http://{org}.localhost:${ports.public}`,
  };
  const trusted = {
    ...common,
    INTERNAL_URL: `http://127.0.0.1:${ports.internal}`,
    INTERNAL_JWT_KEYS: `bench:${randomBytes(32).toString("base64url")}`,
    SHAMAN_SECRET_KEYS: input.secretKeys,
    WORKER_HEALTH_PORT: String(ports.health),
  };
  return { common, trusted };
};

export type ShamanOptions = {
  readonly backend: Backend;
  readonly organizations: number;
  /** Off, every piece of streamed text is an event of its own; else the product's default. */
  readonly coalescing: "default" | "off";
};

/** Starts the product's three processes with their defaults, on a copy of the seeded database. */
export const startShaman = async (
  { postgres, seeder }: { readonly postgres: Postgres; readonly seeder: Seeder },
  { backend, organizations, coalescing }: ShamanOptions,
): Promise<Target> => {
  const seeded = await seeder.seeded(organizations);
  const { database, roleUrls } = await seeder.copy(seeded);
  const redis = backend === "redis" ? await startRedis() : null;
  const ports = { public: await freePort(), internal: await freePort(), health: await freePort() };
  const { common, trusted } = environments(ports, { redisUrl: redis?.url, secretKeys: seeder.secretKeysText });
  const start = (
    name: string,
    main: { readonly file: URL; readonly args?: readonly string[]; readonly port: number },
    env: Readonly<Record<string, string>>,
  ): Promise<RunningProcess> =>
    startProcess(serverProcess(name, main.file, { args: main.args ?? [], env }), () => isReadyAt(main.port));
  const role = (name: "public" | "internal") => ({
    file: a2a,
    args: ["--role", name, "--port", String(ports[name])],
    port: ports[name],
  });
  const internal = await start("shaman-internal", role("internal"), {
    ...trusted,
    DATABASE_URL: roleUrls.internal.reveal(),
  });
  const workerProcess = await start(
    "shaman-worker",
    { file: worker, port: ports.health },
    {
      ...trusted,
      DATABASE_URL: roleUrls.worker.reveal(),
      ...(coalescing === "off" && { TEXT_COALESCE_MS: "0" }),
    },
  );
  const publicServer = await start("shaman-public", role("public"), {
    ...common,
    DATABASE_URL: roleUrls.public.reveal(),
  });
  const processes = [publicServer, workerProcess, internal];
  return {
    name: "shaman",
    endpoint: {
      origin: `http://127.0.0.1:${ports.public}`,
      callers: [...seeded.callers],
      prompt: ANSWER_PROMPT,
      expect: ANSWER_TEXT,
    },
    processes,
    countConnections: async () => ({
      postgres: await postgres.countConnections(database),
      redis: (await redis?.countConnections()) ?? 0,
    }),
    stop: () => stopAll([...processes, ...(redis === null ? [] : [redis])]),
  };
};
