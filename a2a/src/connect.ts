import { hostname } from "node:os";
import { createDb, type Db } from "@shaman/db";
import { systemClock, type Secret } from "@shaman/kernel";
import { createChangeFeed, createPostgresFanOut, createRedisFanOut, type ChangeFeed, type FanOut } from "@shaman/queue";
import { createLogger, createMetrics, type HealthCheck, type Logger, type Metrics } from "@shaman/telemetry";

export type Connections = {
  readonly name: string;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly db: Db;
  readonly fanOut: FanOut;
  readonly changes: ChangeFeed;
  readonly checks: readonly HealthCheck[];
  readonly onError: (error: unknown) => void;
};

/** What every server of this app needs: log, metrics, PostgreSQL as its own role, and nudges. */
export const connect = async (
  role: "public" | "internal",
  config: {
    readonly database: { readonly url: Secret; readonly poolSize: number };
    readonly redis: { readonly url: Secret } | null;
    readonly log: { readonly level: string };
  },
  underWay?: (orgId: string) => number,
): Promise<Connections> => {
  const name = `${role}-${hostname()}-${process.pid}`;
  const log = createLogger({ process: `a2a-${role}`, level: config.log.level });
  const onError = (error: unknown): void => log.error("connection_failed", error);
  const db = createDb({ ...config.database, name, onError, keepFull: true, underWay });
  await db.check();
  const fanOut =
    config.redis === null
      ? createPostgresFanOut({ name, onError, db, url: config.database.url })
      : createRedisFanOut({ name, onError, url: config.redis.url });
  const changes = createChangeFeed({ db, clock: systemClock, onError });
  const checks = [{ name: "database", check: async () => void (await db.plain({ text: "SELECT 1" })) }];
  return { name, log, metrics: createMetrics(), db, fanOut, changes, checks, onError };
};
