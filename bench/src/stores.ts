import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync, chmodSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startPostgres } from "@shaman/postgres-embedded";
import { Redis } from "ioredis";
import { Client } from "pg";
import { freePort, startProcess, type RunningProcess } from "./processes.ts";

export type Postgres = {
  readonly pid: number;
  readonly version: string;
  /** Makes a database, empty or as a copy of one that nothing is connected to; gives its owner's address. */
  readonly createDatabase: (
    prefix: string,
    template?: string,
  ) => Promise<{ readonly name: string; readonly url: string }>;
  /** How many client connections the database has now. */
  readonly countConnections: (database: string) => Promise<number>;
  readonly stop: () => Promise<void>;
};

/** Starts a PostgreSQL of its own, with the settings of `npm start`, and room for several sets of processes. */
export const startBenchPostgres = async (): Promise<Postgres> => {
  const folder = mkdtempSync(join(tmpdir(), "shaman-bench-"));
  chmodSync(folder, 0o755);
  const server = await startPostgres({
    dir: join(folder, "postgres"),
    port: 0,
    log: () => {},
    settings: { max_connections: "400" },
  });
  const admin = new Client({ connectionString: server.url });
  await admin.connect();
  const version = await admin.query<{ version: string }>("select current_setting('server_version') as version");
  return {
    pid: server.pid,
    version: version.rows[0]?.version ?? "unknown",
    createDatabase: async (prefix, template) => {
      const name = `bench_${prefix}_${randomUUID()}`;
      const copied = template === undefined ? "" : ` template ${admin.escapeIdentifier(template)}`;
      await admin.query(`create database ${admin.escapeIdentifier(name)}${copied}`);
      const url = new URL(server.url);
      url.pathname = `/${name}`;
      return { name, url: url.href };
    },
    countConnections: async (database) => {
      const found = await admin.query<{ count: number }>(
        "select count(*)::int as count from pg_stat_activity where datname = $1 and backend_type = 'client backend'",
        [database],
      );
      return found.rows[0]?.count ?? 0;
    },
    stop: async () => {
      await admin.end();
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
};

export type RedisServer = RunningProcess & {
  readonly url: string;
  /** How many clients are connected, the one that asks not counted. */
  readonly countConnections: () => Promise<number>;
};

/** Starts a Redis of its own that keeps nothing on disk. Rejects when there is no `redis-server` to run. */
export const startRedis = async (): Promise<RedisServer> => {
  const port = await freePort();
  const args = ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
  const running = await startProcess(
    { name: "redis", command: "redis-server", args: [...args, "--maxmemory-policy", "noeviction"], env: {} },
    (lines) => lines.some((line) => line.includes("Ready to accept connections")),
  );
  const url = `redis://127.0.0.1:${port}`;
  const countConnections = async (): Promise<number> => {
    const client = new Redis(url);
    const list = await client.client("LIST");
    client.disconnect();
    return String(list).trim().split("\n").length - 1;
  };
  return { ...running, url, countConnections };
};
