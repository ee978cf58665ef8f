import type { Secret } from "@shaman/kernel";
import { createPostgresBackend } from "bullmq";
import pg from "pg";

const USERS = ["shaman_public", "shaman_worker", "shaman_web"];

/** Makes or updates BullMQ's tables in the schema `bullmq`, as the database's owner, and lets the processes use them. */
export const migrateJobQueue = async (input: { readonly databaseUrl: Secret }): Promise<void> => {
  const connectionString = input.databaseUrl.reveal();
  const owner = new pg.Client({ connectionString });
  await owner.connect();
  try {
    await owner.query("CREATE SCHEMA IF NOT EXISTS bullmq");
    const backend = createPostgresBackend("migrate", {
      connection: { connectionString, schema: "bullmq", migrate: true, max: 1 },
    });
    await backend.waitUntilReady();
    await backend.close();
    for (const user of USERS) {
      await owner.query(`GRANT USAGE ON SCHEMA bullmq TO ${user}`);
      await owner.query(`GRANT ALL ON ALL TABLES IN SCHEMA bullmq TO ${user}`);
      await owner.query(`GRANT ALL ON ALL SEQUENCES IN SCHEMA bullmq TO ${user}`);
      await owner.query(`GRANT EXECUTE ON ALL ROUTINES IN SCHEMA bullmq TO ${user}`);
    }
  } finally {
    await owner.end();
  }
};
