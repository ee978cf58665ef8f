import { testDatabase, whenRow, type TestDatabase } from "@shaman/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";
import { isUniqueViolation } from "./db.ts";

let database: TestDatabase;
let orgId: string;
beforeAll(async () => {
  database = await testDatabase();
  ({ orgId } = await database.givenOrg());
});
afterAll(() => database.close());

const SLOW = { text: "SELECT pg_sleep(60), 'lost-connection'" };

/** Ends the connection that is at work on it. */
const cut = async (): Promise<void> => {
  const here = "query LIKE '%''lost-connection''%' AND pid <> pg_backend_pid() AND state = 'active'";
  await whenRow(database, `SELECT 1 FROM pg_stat_activity WHERE ${here}`);
  await database.inspect(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE ${here}`);
};

test.each(["batch", "withOrg", "plain"] as const)(
  "a %s whose connection is cut says that PostgreSQL is away",
  async (how) => {
    const db = database.as("worker");
    const work = {
      batch: () => db.batch(orgId, [SLOW]),
      withOrg: () => db.withOrg(orgId, (tx) => tx.query(SLOW)),
      plain: () => db.plain(SLOW),
    }[how]();
    const [failed] = await Promise.all([work.catch((error: unknown) => error), cut()]);
    expect(failed).toMatchObject({ code: "database_unavailable", kind: "operational", retryAfterMs: 1_000 });
    expect((await db.plain({ text: "SELECT 1 AS one" })).rows).toEqual([{ one: 1 }]);
  },
);

test("what PostgreSQL refuses stays what it is", async () => {
  const db = database.as("worker");
  const failed = await db.plain({ text: "SELECT 1 / 0" }).catch((error: unknown) => error);
  expect(failed).toMatchObject({ code: "22012" });
  expect(isUniqueViolation(failed, "any")).toBe(false);
});
