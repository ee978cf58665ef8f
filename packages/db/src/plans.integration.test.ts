import { testDatabase, type TestDatabase } from "@shaman/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createDb, type Db } from "./db.ts";

let database: TestDatabase;
let db: Db;
beforeAll(async () => {
  database = await testDatabase();
  // The index made last is the one that the planner takes as long as it sees no difference.
  await database.inspect(
    `CREATE TABLE plan_test (org_id text, id integer, note character(1500), PRIMARY KEY (org_id, id)) WITH (autovacuum_enabled = off)`,
  );
  await database.inspect("CREATE INDEX plan_test_org ON plan_test (org_id)");
  await database.inspect("GRANT SELECT ON plan_test TO shaman_public");
  db = createDb({ url: database.roleUrls.public, poolSize: 1, name: "plans", onError: () => undefined });
});
afterAll(async () => {
  await db.close();
  await database.close();
});

const FIND = { name: "find", text: "SELECT note FROM plan_test WHERE org_id = $1 AND id = $2", values: ["o", 1] };

const planOf = async (): Promise<string> => {
  const [, explained] = await db.batch("o", [FIND, { text: "EXPLAIN EXECUTE find ('o', 1)" }]);
  return explained?.rows.map((row) => row["QUERY PLAN"]).join("\n") ?? "";
};

test("a plan that was made for an empty table is made anew when the connection was used some times", async () => {
  expect(await planOf()).toContain("plan_test_org");
  await database.inspect("INSERT INTO plan_test SELECT 'o', n, 'x' FROM generate_series(1, 5000) AS n");
  const plans: string[] = [];
  for (let batches = 2; batches <= 64; batches += 1) plans.push(await planOf());
  expect(plans[0]).toContain("plan_test_org");
  expect(plans.at(-1)).toContain("plan_test_pkey");
});
