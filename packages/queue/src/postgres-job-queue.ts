import { createListener, keepFull, poolConfig } from "@shaman/db";
import type { Secret } from "@shaman/kernel";
import { createPostgresBackend, isPgPool } from "bullmq";
import pg from "pg";
import { createJobQueue, orgOfQueue, WORKER_OPTIONS, type JobQueue, type JobQueueOptions } from "./job-queue.ts";

/** The channel on which BullMQ's PostgreSQL backend tells the name of a queue that got a job. */
const BULLMQ_CHANNEL = "bullmq_jobs";

/**
 * A connection that breaks while BullMQ holds it fails what it was doing. Without a listener its error would end the
 * process as well.
 */
class SturdyClient extends pg.Client {
  constructor(config?: string | pg.ClientConfig) {
    super(config);
    this.on("error", () => undefined);
  }
}

/**
 * BullMQ on PostgreSQL. The queue only wakes; runs are recorded elsewhere and swept, so its own commits need not wait
 * for the disk.
 */
export const createPostgresJobQueue = (
  options: JobQueueOptions & {
    readonly url: Secret;
    readonly poolSize: number;
    /** Has all connections open from the start, as a server should; else they come when first needed. They stay. */
    readonly keepFull?: boolean;
  },
): JobQueue => {
  const { name, onError, url, poolSize } = options;
  // BullMQ leaves the schema of a pool that it is given to whoever made it.
  const settings = "-c synchronous_commit=off -c search_path=bullmq";
  const pool = new pg.Pool({
    ...poolConfig({ url, poolSize, name: `${name}-queue`, options: settings }),
    Client: SturdyClient,
  });
  if (!isPgPool(pool)) throw new Error("This version of BullMQ takes another kind of pool");
  const root = createPostgresBackend(
    "root",
    { connection: pool, ...WORKER_OPTIONS },
    { withBlockingConnection: false },
  );
  root.on("error", onError);
  const full = options.keepFull === true ? keepFull(pool, { size: poolSize, onError }) : undefined;
  const listener = createListener({
    url,
    name: `${name}-queue`,
    onError,
    onReconnect: () => undefined,
  });
  return createJobQueue(options, {
    factory: (name) => root.forQueue(name),
    // BullMQ tells by itself.
    announce: () => Promise.resolve(),
    onAdded: (handler) =>
      listener.listen(BULLMQ_CHANNEL, (name) => {
        const orgId = orgOfQueue(name);
        if (orgId !== undefined) handler(orgId);
      }),
    close: async () => {
      full?.stop();
      await listener.close();
      await root.close();
      await pool.end();
    },
  });
};
