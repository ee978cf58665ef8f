import { AppError, type Secret } from "@shaman/kernel";
import pg from "pg";
import { BatchQuery } from "./batch-query.ts";
import { keepFull } from "./full-pool.ts";
import type { BatchOptions, Row, Rows, Statement } from "./statement.ts";
import { createTogether, type Together } from "./together.ts";

export type Tx = {
  /** Runs one statement inside the transaction. Statements sent without waiting for each other share a round trip. */
  readonly query: <R = Record<string, unknown>>(statement: Statement) => Promise<Rows<R>>;
};

export type Db = {
  /**
   * Runs `work` in one transaction that sees and writes only this organization's rows (row-level security).
   * Commits when it returns, rolls back when it throws. Never wait for a model, a tool or another server inside.
   */
  readonly withOrg: <T>(orgId: string, work: (tx: Tx) => Promise<T>) => Promise<T>;
  /** The same for statements known beforehand: all of them in a single round trip, committed together or not at all. */
  readonly batch: (
    orgId: string,
    statements: readonly Statement[],
    options?: BatchOptions,
  ) => Promise<readonly Rows<Row>[]>;
  /** A statement's work for one item, done together with what others of the same kind and organization wait for. */
  readonly together: Together;
  /** A transaction of the system role, across organizations. Only for the named places of docs/decisions. */
  readonly unscoped: <T>(work: (tx: Tx) => Promise<T>) => Promise<T>;
  /** One statement outside any organization, as the process's own role: tables without tenant data, NOTIFY. */
  readonly plain: <R = Record<string, unknown>>(statement: Statement) => Promise<Rows<R>>;
  /** Rejects when PostgreSQL does not answer, or when the role could bypass row-level security. */
  readonly check: () => Promise<void>;
  readonly close: () => Promise<void>;
};

const INT8_OID = 20;
const CONNECT_TIMEOUT_MS = 5_000;
const STATEMENT_TIMEOUT_MS = 15_000;
const IDLE_IN_TRANSACTION_TIMEOUT_MS = 20_000;

const BEGIN = { name: "begin", text: "BEGIN" };
const COMMIT = { name: "commit", text: "COMMIT" };
const SET_ORG = "SELECT set_config('app.org_id', $1, true)";
const SET_ORG_DURABLE_LATER = `${SET_ORG}, set_config('synchronous_commit', 'off', true)`;

/** What a connection was used for: the statements it has prepared, how often, and when its plans are made anew. */
type Used = { readonly names: Set<string>; batches: number; newPlansAt: number };

const DISCARD_PLANS = { name: "discard_plans", text: "DISCARD PLANS" };
/**
 * Plans are made anew before the 64th batch of a connection, the 256th and so on. On an empty table a wrong index costs what
 * the right one does, and the choice between them would stay while the table grows.
 */
const FIRST_NEW_PLANS = 64;

/** Counts one more batch; whether plans are made anew before it. */
const countBatch = (used: Used): boolean => {
  used.batches += 1;
  if (used.batches < used.newPlansAt) return false;
  used.newPlansAt *= 4;
  return true;
};

/** bigint columns hold counts and positions here, all far below 2^53. */
const types = {
  getTypeParser: (oid: number, format?: "text" | "binary") =>
    oid === INT8_OID ? Number : pg.types.getTypeParser(oid, format),
};

/**
 * Our statements are prepared and find their few rows by index (docs/decisions/004-plans-that-cannot-age.md). A plan made
 * while a table was still empty would scan or hash it, and be kept while the table grows; planning each statement several
 * times before keeping a plan costs more than it gains.
 */
const PLANNER_OPTIONS = [
  "plan_cache_mode=force_generic_plan",
  "enable_seqscan=off",
  "enable_hashjoin=off",
  "enable_mergejoin=off",
  "enable_bitmapscan=off",
]
  .map((setting) => `-c ${setting}`)
  .join(" ");

/** Pool settings shared by every connection we open. `options` are PostgreSQL start parameters such as `-c search_path=…`. */
export const poolConfig = (input: {
  url: Secret;
  poolSize: number;
  name: string;
  options?: string;
}): pg.PoolConfig => ({
  connectionString: input.url.reveal(),
  max: input.poolSize,
  idleTimeoutMillis: 0,
  application_name: input.name,
  connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
  statement_timeout: STATEMENT_TIMEOUT_MS,
  idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_TIMEOUT_MS,
  keepAlive: true,
  options: input.options ?? PLANNER_OPTIONS,
});

/** Opens the process's pool. Connections are made when first needed and kept, or all at once with `keepFull`. */
export const createDb = (input: {
  readonly url: Secret;
  readonly poolSize: number;
  readonly name: string;
  /** Told about connections that broke while idle; the pool replaces them by itself. */
  readonly onError: (error: Error) => void;
  /** Has all connections open from the start, as a server should; `check` then waits for them. */
  readonly keepFull?: boolean;
  /** How much work of an organization is under way in this process; by it `together` knows what is worth waiting for. */
  readonly underWay?: ((orgId: string) => number) | undefined;
}): Db => {
  const pool = new pg.Pool({ ...poolConfig(input), types, pipeline: true });
  pool.on("error", input.onError);
  // The pool listens only to idle connections. One that breaks in our hands fails its statements, which is enough; without
  // a listener its error would end the process.
  pool.on("connect", (client) => client.on("error", () => undefined));

  const full = input.keepFull === true ? keepFull(pool, { size: input.poolSize, onError: input.onError }) : undefined;
  const usedBy = new WeakMap<pg.PoolClient, Used>();
  const runBatch = (client: pg.PoolClient, statements: readonly Statement[]): Promise<readonly pg.QueryResult[]> =>
    new Promise((resolve, reject) => {
      client.query(
        new BatchQuery(statements, types, (error, results) => (error === undefined ? resolve(results) : reject(error))),
      );
    });

  const run = async <R>(client: pg.PoolClient, statement: Statement): Promise<Rows<R>> => {
    try {
      const result = await client.query({
        text: statement.text,
        ...(statement.name !== undefined && { name: statement.name }),
        ...(statement.values !== undefined && { values: [...statement.values] }),
      });
      return { rows: result.rows, rowCount: result.rowCount ?? 0 };
    } catch (error) {
      throw asFailure(error);
    }
  };

  const transaction = async <T>(opening: readonly Statement[], work: (tx: Tx) => Promise<T>): Promise<T> => {
    const client = await connect(pool);
    let broken: Error | undefined;
    try {
      const opened = Promise.all(opening.map((statement) => run(client, statement)));
      opened.catch(() => undefined);
      const value = await work({ query: (statement) => run(client, statement) });
      await opened;
      await run(client, COMMIT);
      return value;
    } catch (error) {
      broken = await rollback(client);
      throw error;
    } finally {
      client.release(broken);
    }
  };

  const batch: Db["batch"] = async (orgId, statements, options = {}) => {
    const client = await connect(pool);
    const used = usedBy.get(client) ?? { names: new Set(), batches: 0, newPlansAt: FIRST_NEW_PLANS };
    usedBy.set(client, used);
    const plansAnew = countBatch(used);
    let broken = false;
    const scope =
      options.durable === "later"
        ? { name: "set_org_durable_later", text: SET_ORG_DURABLE_LATER, values: [orgId] }
        : { name: "set_org", text: SET_ORG, values: [orgId] };
    try {
      const before = plansAnew ? [DISCARD_PLANS, scope] : [scope];
      const results = await runBatch(client, [...before, ...statements]);
      for (const { name } of statements) if (name !== undefined) used.names.add(name);
      return results.slice(before.length).map((result) => ({ rows: result.rows, rowCount: result.rowCount ?? 0 }));
    } catch (error) {
      // The server prepared what came before the error and nothing after it; the client cannot tell which.
      broken =
        !(error instanceof pg.DatabaseError) ||
        statements.some(({ name }) => name === undefined || !used.names.has(name));
      throw asFailure(error);
    } finally {
      client.release(broken);
    }
  };

  return {
    withOrg: (orgId, work) => transaction([BEGIN, { name: "set_org", text: SET_ORG, values: [orgId] }], work),
    batch,
    together: createTogether({ batch, wasUndone, underWay: input.underWay ?? (() => 1) }),
    unscoped: (work) => transaction([BEGIN, { name: "set_system", text: "SET LOCAL ROLE shaman_system" }], work),
    plain: async (statement) => {
      const client = await connect(pool);
      let broken = false;
      try {
        return await run(client, statement);
      } catch (error) {
        broken = !(error instanceof pg.DatabaseError);
        throw error;
      } finally {
        client.release(broken);
      }
    },
    check: async () => {
      await full?.opened;
      const client = await connect(pool);
      try {
        const { rows } = await run<{ risky: boolean; name: string }>(client, {
          text: "SELECT rolname AS name, rolsuper OR rolbypassrls AS risky FROM pg_roles WHERE rolname = current_user",
        });
        const role = rows[0];
        if (role?.risky !== false) {
          throw new AppError({
            code: "database_role_too_powerful",
            kind: "operational",
            message: `DATABASE_URL connects as ${role?.name ?? "an unknown role"}, which can bypass row-level security. Use the process's own role (shaman_public, shaman_worker, shaman_internal or shaman_web).`,
          });
        }
      } finally {
        client.release();
      }
    },
    close: () => {
      full?.stop();
      return pool.end();
    },
  };
};

/** An ordinary error undoes its transaction; a connection that is cut may have committed. */
const wasUndone = (error: unknown): boolean => error instanceof pg.DatabaseError && error.severity === "ERROR";

const unavailable = (cause: unknown): AppError =>
  new AppError({
    code: "database_unavailable",
    kind: "operational",
    message: "PostgreSQL cannot be reached",
    retryAfterMs: 1_000,
    cause,
  });

const connect = async (pool: pg.Pool): Promise<pg.PoolClient> => {
  try {
    return await pool.connect();
  } catch (cause) {
    throw unavailable(cause);
  }
};

/** Errors that PostgreSQL says goodbye with: it, or this connection, is being ended. */
const GOODBYES: ReadonlySet<string | undefined> = new Set(["57P01", "57P02", "57P03", "57P05"]);

/**
 * What a statement failed with: where its connection broke, that PostgreSQL is away, whether or not it was committed. A
 * TypeError is ours: a value that cannot be sent.
 */
const asFailure = (error: unknown): unknown => {
  const isLost = error instanceof pg.DatabaseError ? GOODBYES.has(error.code) : !(error instanceof TypeError);
  return isLost ? unavailable(error) : error;
};

/** Leaves the connection usable, or says that it must be thrown away. */
const rollback = async (client: pg.PoolClient): Promise<Error | undefined> => {
  try {
    await client.query("ROLLBACK");
    return undefined;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
};

/** Whether PostgreSQL refused a row because a unique constraint or index of this name already holds its key. */
export const isUniqueViolation = (error: unknown, constraint: string): boolean =>
  error instanceof pg.DatabaseError && error.code === "23505" && error.constraint === constraint;
