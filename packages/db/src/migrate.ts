import { createHmac } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { AppError, Secret } from "@shaman/kernel";
import pg from "pg";
import { withSchemaEngine } from "./schema-engine.ts";

/** The kinds of process that have a database role of their own. */
export const PROCESS_ROLES = ["public", "internal", "worker", "web"] as const;
export type ProcessRole = (typeof PROCESS_ROLES)[number];
export type RoleUrls = Readonly<Record<ProcessRole, Secret>>;

const MIGRATIONS_DIR = fileURLToPath(new URL("../../../prisma/migrations/", import.meta.url));
const ADVISORY_LOCK = 4_771_001;

/**
 * Brings a database to the model of this version and gives each process kind its login. `databaseUrl` needs a role that
 * owns the database and may create roles. Passwords of the roles are derived from `roleSecret`, so that every machine
 * with the same secret derives the same URLs. Safe to run at once from several machines, and again at any time.
 */
export const migrate = async (input: {
  readonly databaseUrl: Secret;
  readonly roleSecret: Secret;
}): Promise<{ readonly applied: readonly string[]; readonly roleUrls: RoleUrls }> => {
  const owner = new pg.Client({ connectionString: input.databaseUrl.reveal(), connectionTimeoutMillis: 10_000 });
  await owner.connect();
  try {
    await owner.query("SELECT pg_advisory_lock($1)", [ADVISORY_LOCK]);
    await ensureRoles(owner, input.roleSecret);
    const applied = await applyMigrations(input.databaseUrl);
    await assertApplied(owner);
    return { applied, roleUrls: deriveRoleUrls(input) };
  } finally {
    await owner.end();
  }
};

/** The URL of each process kind's role, derived without asking the database. */
export const deriveRoleUrls = (input: { readonly databaseUrl: Secret; readonly roleSecret: Secret }): RoleUrls => {
  const urlOf = (role: ProcessRole): Secret => {
    const url = new URL(input.databaseUrl.reveal());
    url.username = `shaman_${role}`;
    url.password = passwordOf(role, input.roleSecret);
    return new Secret(url.href);
  };
  return { public: urlOf("public"), internal: urlOf("internal"), worker: urlOf("worker"), web: urlOf("web") };
};

const passwordOf = (role: ProcessRole, secret: Secret): string =>
  createHmac("sha256", secret.reveal()).update(`shaman-role-${role}`).digest("base64url");

/**
 * Process roles do not inherit, so that the policies of the system role apply only after an explicit SET LOCAL ROLE.
 * The advisory lock is per database and roles are per server: a role another migration is just making is no error.
 */
const ensureRoles = async (owner: pg.Client, secret: Secret): Promise<void> => {
  await createRole(owner, "shaman_system", "NOLOGIN");
  for (const role of PROCESS_ROLES) {
    const name = `shaman_${role}`;
    await createRole(owner, name, "LOGIN NOINHERIT");
    const { rows } = await owner.query<{ statement: string }>(
      "SELECT format('ALTER ROLE %I LOGIN NOINHERIT PASSWORD %L', $1::text, $2::text) AS statement",
      [name, passwordOf(role, secret)],
    );
    await retryConcurrent(owner, rows[0]?.statement ?? "");
    await retryConcurrent(owner, `GRANT shaman_system TO ${name}`);
    await owner.query(`GRANT USAGE ON SCHEMA public TO ${name}`);
  }
  await owner.query("GRANT USAGE ON SCHEMA public TO shaman_system");
  await owner.query("REVOKE CREATE ON SCHEMA public FROM PUBLIC");
};

const createRole = async (owner: pg.Client, name: string, attributes: string): Promise<void> => {
  const { rowCount } = await owner.query("SELECT 1 FROM pg_roles WHERE rolname = $1", [name]);
  if (rowCount !== 0) return;
  try {
    await owner.query(`CREATE ROLE ${name} ${attributes}`);
  } catch (error) {
    const exists = error instanceof pg.DatabaseError && (error.code === "42710" || error.code === "23505");
    if (!exists) throw error;
  }
};

/** PostgreSQL answers "tuple concurrently updated" (XX000) when two databases of a server are migrated at once. */
const retryConcurrent = async (owner: pg.Client, statement: string): Promise<void> => {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await owner.query(statement);
      return;
    } catch (error) {
      const concurrent = error instanceof pg.DatabaseError && (error.code === "XX000" || error.code === "23505");
      if (!concurrent || attempt >= 20) throw error;
    }
  }
};

/** The tables of the newest migration must be there: an engine that applied nothing must not pass for success. */
const assertApplied = async (owner: pg.Client): Promise<void> => {
  const { rows } = await owner.query<{ present: boolean }>(
    "SELECT to_regclass('public.run') IS NOT NULL AND to_regclass('public.audit_seal') IS NOT NULL AS present",
  );
  if (rows[0]?.present !== true) {
    throw new AppError({
      code: "migration_incomplete",
      kind: "unexpected",
      message: "The migrations ran without an error, but their tables are missing",
    });
  }
};

/**
 * Applies prisma/migrations with Prisma's schema engine as WebAssembly, which needs no engine download. It keeps
 * `_prisma_migrations` as the Prisma command line does.
 */
const applyMigrations = async (databaseUrl: Secret): Promise<readonly string[]> => {
  const migrationsList = await readMigrations();
  const filters = { externalTables: [], externalEnums: [] };
  return await withSchemaEngine(databaseUrl, async (engine) => {
    const { appliedMigrationNames } = await engine.applyMigrations({ migrationsList, filters });
    return appliedMigrationNames;
  });
};

const readMigrations = async () => {
  const entries = await readdir(MIGRATIONS_DIR, { withFileTypes: true });
  const names = entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  const migrationDirectories = [];
  for (const name of names.toSorted()) {
    const text = await readFile(`${MIGRATIONS_DIR}${name}/migration.sql`, "utf8");
    const content = { tag: "ok", value: text } as const;
    migrationDirectories.push({ path: name, migrationFile: { path: "migration.sql", content } });
  }
  return {
    baseDir: MIGRATIONS_DIR,
    lockfile: { path: "migration_lock.toml", content: 'provider = "postgresql"\n' },
    shadowDbInitScript: "",
    migrationDirectories,
  };
};
