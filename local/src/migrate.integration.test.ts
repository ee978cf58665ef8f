import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { createDb, PROCESS_ROLES } from "@shaman/db";
import { Secret } from "@shaman/kernel";
import { startTemporaryPostgres } from "@shaman/postgres-embedded";
import { expect, test } from "vitest";

const run = promisify(execFile);

const migrateWith = async (databaseUrl: string | undefined) => {
  const env = { ...process.env, DATABASE_URL: databaseUrl };
  return run(process.execPath, [join(import.meta.dirname, "migrate.ts")], { env, timeout: 60_000 });
};

test("npm run migrate brings a database up to date and prints a URL that lets each process in, every time the same", async () => {
  // A server of its own, because the roles and their passwords belong to the whole server.
  const postgres = await startTemporaryPostgres();
  try {
    const first = await migrateWith(postgres.url);
    expect(first.stderr).toMatch(/Applied \d+_first/);
    const urls = new Map(first.stdout.split("\n").map((line) => [line.slice(0, 8).trim(), line.slice(9)]));
    for (const role of PROCESS_ROLES) {
      const url = new Secret(urls.get(role) ?? "");
      const db = createDb({ url, poolSize: 1, name: "migrate-test", onError: () => undefined });
      try {
        await db.check();
      } finally {
        await db.close();
      }
    }
    const again = await migrateWith(postgres.url);
    expect(again.stderr).toContain("The database was up to date.");
    expect(again.stdout).toBe(first.stdout);
  } finally {
    await postgres.stop();
  }
});

test("npm run migrate without DATABASE_URL says what to set and fails", async () => {
  await expect(migrateWith(undefined)).rejects.toMatchObject({
    code: 1,
    stderr: expect.stringContaining("DATABASE_URL"),
  });
});
