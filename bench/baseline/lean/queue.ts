import { createPostgresBackend, isPgPool, Queue, runMigrations, Worker, type PgPool, type Processor } from "bullmq";
import { Redis } from "ioredis";
import { Pool } from "pg";

/** What a job carries: enough for the worker to run without reading the task's row first. */
export type LeanJob = {
  readonly taskId: string;
  readonly prompt: string;
  /** The public process that waits for the result. */
  readonly replyTo: string;
};

export type LeanQueue = { readonly add: (job: LeanJob) => Promise<unknown> };

const QUEUE = "lean-jobs";

type Stores = { readonly databaseUrl: string; readonly redisUrl: string | null };

/** BullMQ sends its few statements as plain text each time; prepared under a name they cost a tenth less. */
const preparing = (pool: Pool): PgPool => {
  const names = new Map<string, string>();
  const nameOf = (text: string): string => {
    const known = names.get(text) ?? `bullmq-${names.size}`;
    names.set(text, known);
    return known;
  };
  const adapter: unknown = {
    query: (text: string, values?: unknown[]) =>
      values === undefined ? pool.query(text) : pool.query({ name: nameOf(text), text, values }),
    connect: () => pool.connect(),
    end: () => pool.end(),
    on: pool.on.bind(pool),
    removeAllListeners: pool.removeAllListeners.bind(pool),
    options: pool.options,
  };
  // BullMQ's own description of a pool is narrower than pg's; its guard tells the compiler that this one fits.
  if (!isPgPool(adapter)) throw new Error("pg's pool is not what BullMQ expects");
  return adapter;
};

const queuePool = (databaseUrl: string, max: number): PgPool =>
  preparing(
    new Pool({
      connectionString: databaseUrl,
      max,
      keepAlive: true,
      idleTimeoutMillis: 0,
      // The queue is a wake-up, the task's row is the truth: its own rows need not reach the disk before the call goes on.
      options: "-c search_path=bullmq -c synchronous_commit=off",
    }),
  );

/** Creates BullMQ's schema in a fresh database. */
export const migrateQueue = async (databaseUrl: string): Promise<void> => {
  const pool = new Pool({ connectionString: databaseUrl, max: 1 });
  const client = await pool.connect();
  await runMigrations(client, "bullmq");
  client.release();
  await pool.end();
};

/** The producer's side: adds a job whose id is the task's. */
export const openQueue = async (stores: Stores): Promise<LeanQueue> => {
  const options = { removeOnComplete: true, removeOnFail: true };
  const queue =
    stores.redisUrl === null
      ? new Queue(QUEUE, { connection: queuePool(stores.databaseUrl, 8) }, createPostgresBackend)
      : new Queue(QUEUE, {
          connection: new Redis(stores.redisUrl, { enableAutoPipelining: true, maxRetriesPerRequest: null }),
        });
  await queue.waitUntilReady();
  return { add: (job) => queue.add("run", job, { ...options, jobId: job.taskId }) };
};

/** The consumer's side; resolves when it takes jobs. */
export const serveQueue = async (stores: Stores, handle: Processor<LeanJob>): Promise<void> => {
  const options = { concurrency: 64, removeOnComplete: { count: 0 }, removeOnFail: { count: 0 } };
  const worker =
    stores.redisUrl === null
      ? new Worker(QUEUE, handle, { ...options, connection: queuePool(stores.databaseUrl, 16) }, createPostgresBackend)
      : new Worker(QUEUE, handle, {
          ...options,
          connection: new Redis(stores.redisUrl, { maxRetriesPerRequest: null }),
        });
  worker.on("error", (error) => console.error(error));
  worker.on("failed", (_job, error) => console.error(error));
  await worker.waitUntilReady();
};
