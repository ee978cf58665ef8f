import { newId } from "@shaman/kernel";
import { testDatabase, type TestDatabase } from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createDb } from "./db.ts";

/** Tables of ours that hold nothing of a tenant. Everything else must have org_id, and row-level security forced. */
const NOT_TENANT_DATA = new Set(["organization", "user", "used_jti", "_prisma_migrations"]);

let database: TestDatabase;
beforeAll(async () => {
  database = await testDatabase();
});
afterAll(() => database.close());

const insertContext = (orgId: string, id: string) => ({
  text: "INSERT INTO context (org_id, principal, id) VALUES ($1, 'key:k', $2)",
  values: [orgId, id],
});
const SELECT_CONTEXTS = { name: "select_contexts", text: "SELECT org_id, id FROM context ORDER BY id" };

describe("isolation of organizations", () => {
  it("forces row-level security with a policy on every table, and org_id on every tenant table", async () => {
    const tables = await database.inspect<{ name: string; forced: boolean; policies: number; scoped: boolean }>(`
      SELECT c.relname AS name, c.relrowsecurity AND c.relforcerowsecurity AS forced,
        (SELECT count(*)::int FROM pg_policy p WHERE p.polrelid = c.oid) AS policies,
        EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'org_id' AND a.attnotnull) AS scoped
      FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')`);
    expect(tables.length).toBeGreaterThan(20);
    for (const table of tables) {
      if (table.name === "_prisma_migrations") continue;
      expect(table, table.name).toMatchObject({ forced: true });
      expect(table.policies, table.name).toBeGreaterThan(0);
      if (!NOT_TENANT_DATA.has(table.name)) expect(table.scoped, table.name).toBe(true);
    }
  });

  it("has org_id in every primary, unique and foreign key of tenant tables, which PostgreSQL checks without policies", async () => {
    const keys = await database.inspect<{ name: string; scoped: boolean }>(`
      SELECT c.conname AS name, EXISTS (
        SELECT 1 FROM unnest(c.conkey) AS k JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k
        WHERE a.attname = 'org_id') AS scoped
      FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
      WHERE t.relnamespace = 'public'::regnamespace AND c.contype IN ('p', 'u', 'f')
        AND t.relname NOT IN ('organization', 'user', 'used_jti', '_prisma_migrations')
        AND c.conname NOT IN ('membership_user_id_fkey', 'api_key_secret_hash_key')`);
    expect(keys.filter((key) => !key.scoped)).toEqual([]);
  });

  it("lets no process role own a table, bypass policies, or delete audit rows", async () => {
    const roles = await database.inspect(
      "SELECT rolname FROM pg_roles WHERE rolname LIKE 'shaman\\_%' AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolinherit AND rolcanlogin)",
    );
    expect(roles).toEqual([]);
    const owned = await database.inspect(
      "SELECT relname FROM pg_class WHERE pg_get_userbyid(relowner) LIKE 'shaman\\_%'",
    );
    expect(owned).toEqual([]);
    const changes = await database.inspect(
      `SELECT r.rolname, t.name, p.privilege FROM pg_roles r,
        (VALUES ('audit_log'), ('audit_seal'), ('run_event')) AS t (name), (VALUES ('UPDATE'), ('DELETE'), ('TRUNCATE')) AS p (privilege)
       WHERE r.rolname LIKE 'shaman\\_%' AND has_table_privilege(r.rolname, t.name, p.privilege)`,
    );
    expect(changes).toEqual([]);
  });

  it("shows an organization's transaction its own rows only, and refuses rows of another", async () => {
    const [one, two] = [await database.givenOrg(), await database.givenOrg()];
    const db = database.as("public");
    await db.batch(one.orgId, [insertContext(one.orgId, "c1")]);
    await db.batch(two.orgId, [insertContext(two.orgId, "c2")]);
    const [seen] = await db.batch(one.orgId, [SELECT_CONTEXTS]);
    expect(seen?.rows).toEqual([{ org_id: one.orgId, id: "c1" }]);
    await expect(db.batch(one.orgId, [insertContext(two.orgId, "stolen")])).rejects.toThrow(/row-level security/);
    const outside = await db.plain(SELECT_CONTEXTS);
    expect(outside.rows).toEqual([]);
  });

  it("keeps the organization of 200 concurrent transactions on few connections apart", async () => {
    const orgs = await Promise.all(Array.from({ length: 10 }, () => database.givenOrg()));
    const db = database.as("public");
    await Promise.all(
      Array.from({ length: 200 }, async (_, i) => {
        const org = orgs[i % orgs.length] ?? { orgId: "" };
        const id = newId("ctx");
        await db.withOrg(org.orgId, async (tx) => {
          await tx.query(insertContext(org.orgId, id));
          const { rows } = await tx.query<{ org_id: string }>(SELECT_CONTEXTS);
          expect(new Set(rows.map((row) => row.org_id))).toEqual(new Set([org.orgId]));
        });
      }),
    );
  });

  it("writes nothing of a batch or a transaction in which one statement fails, and keeps the connection usable", async () => {
    const { orgId } = await database.givenOrg();
    const db = database.as("public");
    const failing = { text: "SELECT 1 / 0" };
    await expect(db.batch(orgId, [insertContext(orgId, "a"), failing])).rejects.toThrow(/division by zero/);
    const work = db.withOrg(orgId, async (tx) => {
      await tx.query(insertContext(orgId, "b"));
      throw new Error("stop");
    });
    await expect(work).rejects.toThrow("stop");
    const [left] = await db.batch(orgId, [SELECT_CONTEXTS]);
    expect(left?.rows).toEqual([]);
  });

  it("gives a process role the system's view only inside unscoped, and no write of tenant rows even there", async () => {
    const { orgId } = await database.givenOrg();
    const db = database.as("public");
    const list = { text: "SELECT id FROM organization WHERE id = $1", values: [orgId] };
    expect((await db.plain(list)).rows).toEqual([]);
    expect((await db.unscoped((tx) => tx.query(list))).rows).toEqual([{ id: orgId }]);
    await expect(db.unscoped((tx) => tx.query(insertContext(orgId, "x")))).rejects.toThrow(/permission denied/);
  });

  it("refuses to serve as a role that could bypass row-level security", async () => {
    const db = createDb({ url: database.ownerUrl, poolSize: 1, name: "test", onError: () => undefined });
    await expect(db.check()).rejects.toThrow(/bypass row-level security/);
    await db.close();
    await expect(database.as("worker").check()).resolves.toBeUndefined();
  });
});
