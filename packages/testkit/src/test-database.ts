import { createDb, deriveRoleUrls, type Db, type ProcessRole, type RoleUrls } from "@shaman/db";
import { newId, Secret } from "@shaman/kernel";
import pg from "pg";
import { inject } from "vitest";

export const TEST_ROLE_SECRET = new Secret("only-for-databases-that-live-as-long-as-a-test-run");

export type TestDatabase = {
  /** As the database's owner, who may do anything but is subject to forced row-level security unless a superuser. */
  readonly ownerUrl: Secret;
  readonly roleUrls: RoleUrls;
  /** A pool as one process kind; closed with the database. */
  readonly as: (role: ProcessRole) => Db;
  /** Statements as the owner, for looking at what no role may see. */
  readonly inspect: <R extends pg.QueryResultRow>(text: string, values?: readonly unknown[]) => Promise<R[]>;
  /** Has everybody wait who writes to the table, until the function that this gives is called. One table at a time. */
  readonly holdWrites: (table: string) => Promise<() => Promise<void>>;
  /** An organization of its own for a test; returns its id and slug. */
  readonly givenOrg: () => Promise<{ readonly orgId: string; readonly slug: string }>;
  readonly close: () => Promise<void>;
};

/** A database of its own, cloned from the migrated template (the test run's, or another one's). Close it in `afterAll`. */
export const testDatabase = async (template?: Secret): Promise<TestDatabase> => {
  const templateUrl = new URL(template?.reveal() ?? inject("templateUrl"));
  const name = `t_${newId("org").slice(4)}`;
  const adminUrl = new URL(templateUrl);
  adminUrl.pathname = "/postgres";
  await withClient(adminUrl.href, (admin) =>
    admin.query(`CREATE DATABASE ${name} TEMPLATE ${templateUrl.pathname.slice(1)} STRATEGY file_copy`),
  );

  const ownUrl = new URL(templateUrl);
  ownUrl.pathname = `/${name}`;
  const ownerUrl = new Secret(ownUrl.href);
  const roleUrls = deriveRoleUrls({ databaseUrl: ownerUrl, roleSecret: TEST_ROLE_SECRET });
  const owner = new pg.Pool({ connectionString: ownUrl.href, max: 2 });
  owner.on("error", () => undefined);
  const open = new Map<ProcessRole, Db>();

  const as = (role: ProcessRole): Db => {
    const known = open.get(role);
    if (known !== undefined) return known;
    const db = createDb({ url: roleUrls[role], poolSize: 10, name: `test-${role}`, onError: () => undefined });
    open.set(role, db);
    return db;
  };

  const inspect: TestDatabase["inspect"] = async <R extends pg.QueryResultRow>(
    text: string,
    values: readonly unknown[] = [],
  ) => (await owner.query<R>(text, [...values])).rows;

  return {
    ownerUrl,
    roleUrls,
    as,
    inspect,
    holdWrites: async (table) => {
      const client = await owner.connect();
      await client.query(`BEGIN; LOCK TABLE ${table} IN EXCLUSIVE MODE`);
      return async () => {
        await client.query("COMMIT");
        client.release();
      };
    },
    givenOrg: async () => {
      const orgId = newId("org");
      const slug = orgId.slice(-12);
      await inspect("INSERT INTO organization (id, slug, name) VALUES ($1, $2, $2)", [orgId, slug]);
      return { orgId, slug };
    },
    close: async () => {
      await Promise.all([...open.values()].map((db) => db.close()));
      await owner.end();
      await withClient(adminUrl.href, (admin) => admin.query(`DROP DATABASE ${name} WITH (FORCE)`));
    },
  };
};

const withClient = async (url: string, use: (client: pg.Client) => Promise<unknown>): Promise<void> => {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await use(client);
  } finally {
    await client.end();
  }
};
