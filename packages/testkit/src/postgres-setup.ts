import { migrate } from "@shaman/db";
import { Secret } from "@shaman/kernel";
import { startTemporaryPostgres } from "@shaman/postgres-embedded";
import { migrateJobQueue } from "@shaman/queue";
import type { TestProject } from "vitest/node";
import { TEST_ROLE_SECRET } from "./test-database.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** Owner's URL of the migrated database that test databases are cloned from. */
    readonly templateUrl: string;
  }
}

/** Starts one PostgreSQL for the whole test run and migrates the database that every test clones. */
export const setup = async (project: TestProject): Promise<() => Promise<void>> => {
  const postgres = await startTemporaryPostgres({ settings: { max_connections: "600" } });
  const databaseUrl = new Secret(postgres.url);
  await migrate({ databaseUrl, roleSecret: TEST_ROLE_SECRET });
  await migrateJobQueue({ databaseUrl });
  project.provide("templateUrl", postgres.url);
  return postgres.stop;
};
