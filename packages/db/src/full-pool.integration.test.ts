import { Secret } from "@shaman/kernel";
import { testDatabase, type TestDatabase } from "@shaman/testkit";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { createDb } from "./db.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await testDatabase();
});
afterAll(() => database.close());

const countOf = async (name: string): Promise<number> => {
  const rows = await database.inspect("SELECT pid FROM pg_stat_activity WHERE application_name = $1", [name]);
  return rows.length;
};

const open = (input: { name: string; url?: Secret; keepFull?: boolean }) => {
  const errors: Error[] = [];
  const db = createDb({
    url: database.roleUrls.public,
    poolSize: 5,
    onError: (error) => errors.push(error),
    ...input,
  });
  return { db, errors };
};

const NOTHING = { text: "SELECT 1" };

test("a full pool has all its connections before the first query, and no more under load", async () => {
  const { db } = open({ name: "full", keepFull: true });
  await db.check();
  expect(await countOf("full")).toBe(5);
  await Promise.all(Array.from({ length: 50 }, () => db.plain(NOTHING)));
  expect(await countOf("full")).toBe(5);
  await db.close();
  await vi.waitFor(async () => expect(await countOf("full")).toBe(0));
});

test("an ordinary pool opens what it needs", async () => {
  const { db } = open({ name: "lazy" });
  await db.check();
  expect(await countOf("lazy")).toBe(1);
  await db.close();
});

test("a full pool whose connections broke is full again by itself, without a query", async () => {
  const { db, errors } = open({ name: "broken", keepFull: true });
  await db.check();
  const killed = await database.inspect<{ pid: number }>(
    "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'broken'",
  );
  const old = new Set(killed.map(({ pid }) => pid));
  expect(old.size).toBe(5);
  await vi.waitFor(
    async () => {
      const now = await database.inspect<{ pid: number }>(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'broken'",
      );
      expect(now.filter(({ pid }) => !old.has(pid))).toHaveLength(5);
    },
    { timeout: 10_000 },
  );
  expect(errors.length).toBeGreaterThan(0);
  await db.check();
  await db.close();
});

test("a full pool whose database is away says so and does not hang", async () => {
  const { db, errors } = open({
    name: "away",
    keepFull: true,
    url: new Secret("postgres://shaman_public@127.0.0.1:1/none"),
  });
  await expect(db.check()).rejects.toThrow("PostgreSQL cannot be reached");
  expect(errors.length).toBeGreaterThan(0);
  await db.close();
});
