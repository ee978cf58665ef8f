import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { migrate } from "@shaman/db";
import { Secret } from "@shaman/kernel";
import { startPostgres } from "@shaman/postgres-embedded";
import { migrateJobQueue } from "@shaman/queue";
import { TEST_ROLE_SECRET } from "./test-database.ts";

export type PostgresServer = {
  /** Owner's URL of a migrated database; `testDatabase` clones it. */
  readonly templateUrl: Secret;
  /** Ends it without a checkpoint, so that the next start has to recover. */
  readonly crash: () => Promise<void>;
  /** Starts it again on the same port with the same data. */
  readonly restart: () => Promise<void>;
  readonly close: () => Promise<void>;
};

/** A PostgreSQL server of a test's own, which it may break without hitting the others. */
export const startPostgresServer = async (): Promise<PostgresServer> => {
  const folder = await mkdtemp(join(tmpdir(), "shaman-fault-"));
  // Started by root it runs as another user, who must be able to enter.
  await chmod(folder, 0o711);
  const start = (port: number) => startPostgres({ dir: join(folder, "postgres"), port, log: () => undefined });
  let server = await start(0);
  const templateUrl = new Secret(server.url);
  await migrate({ databaseUrl: templateUrl, roleSecret: TEST_ROLE_SECRET });
  await migrateJobQueue({ databaseUrl: templateUrl });
  return {
    templateUrl,
    crash: async () => {
      process.kill(server.pid, "SIGQUIT");
      await server.exited;
    },
    restart: async () => {
      server = await start(server.port);
    },
    close: async () => {
      await server.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
};
