import { randomBytes } from "node:crypto";
import { freePort, nodeProcess, startProcess, type RunningProcess } from "../processes.ts";
import { startRedis, type Postgres } from "../stores.ts";
import { ANSWER_PROMPT, ANSWER_TEXT, stopAll, type Backend, type Target } from "./target.ts";

const fileOf = (name: string): URL => new URL(`../../baseline/lean/${name}.ts`, import.meta.url);

const isReady = (lines: readonly string[]): boolean => lines.some((line) => line.startsWith("ready"));

/** Starts the hand-written lean path: three processes on the given BullMQ backend. */
export const startLean = async ({ postgres }: { readonly postgres: Postgres }, backend: Backend): Promise<Target> => {
  const { name: database, url: databaseUrl } = await postgres.createDatabase("lean");
  const redis = backend === "redis" ? await startRedis() : null;
  const [publicPort, internalPort] = [await freePort(), await freePort()];
  const apiKey = `sk_test_${randomBytes(32).toString("base64url")}`;
  const env = {
    DATABASE_URL: databaseUrl,
    INTERNAL_URL: `http://127.0.0.1:${internalPort}`,
    LEAN_JWT_KEY: randomBytes(32).toString("base64url"),
    LEAN_API_KEY: apiKey,
    ...(redis === null ? {} : { REDIS_URL: redis.url }),
  };
  const start = (role: string, port: number): Promise<RunningProcess> =>
    startProcess(nodeProcess(`lean-${role}`, fileOf(role), { env: { ...env, PORT: String(port) } }), isReady);
  await start("migrate", 0);
  const internal = await start("internal", internalPort);
  const worker = await start("worker", 0);
  const publicServer = await start("public", publicPort);
  return {
    name: "lean",
    endpoint: {
      origin: `http://127.0.0.1:${publicPort}`,
      callers: [{ host: "acme.localhost", path: "/a2a/v1/agents/Echo", token: apiKey }],
      prompt: ANSWER_PROMPT,
      expect: ANSWER_TEXT,
    },
    processes: [publicServer, worker, internal],
    countConnections: async () => ({
      postgres: await postgres.countConnections(database),
      redis: (await redis?.countConnections()) ?? 0,
    }),
    stop: () => stopAll([publicServer, worker, internal, ...(redis === null ? [] : [redis])]),
  };
};
