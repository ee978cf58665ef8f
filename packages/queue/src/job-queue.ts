import { createListener, keepFull, poolConfig } from "@shaman/db";
import { type Secret } from "@shaman/kernel";
import {
  type BackendFactory,
  createPostgresBackend,
  createRedisBackend,
  type IQueueBackend,
  isPgPool,
  type Job,
  Queue,
  Worker,
} from "bullmq";
import type { Redis } from "ioredis";
import { setImmediate } from "node:timers/promises";
import pg from "pg";
import { openRedis } from "./redis.ts";
import { settledWithin } from "./settled-within.ts";

/** A wake-up. It holds ids only: what is to be done is in PostgreSQL, and doing it twice must be harmless. */
export type WakeUp = {
  readonly orgId: string;
  /** Adding an id that is still queued changes nothing. */
  readonly jobId: string;
  readonly name: string;
  readonly data: Readonly<Record<string, string | number>>;
  /** 1 (first) to 5. */
  readonly priority: number;
  readonly delayMs?: number;
};

export type TakenWakeUp = {
  readonly orgId: string;
  readonly name: string;
  readonly data: unknown;
  /** Removes it from the queue and, if there is another of this organization, takes that one. */
  readonly finish: (options: { readonly takeNext: boolean }) => Promise<TakenWakeUp | undefined>;
};

export type JobQueue = {
  readonly add: (job: WakeUp) => Promise<void>;
  /** Adds again what may have been lost or left half taken by a dead process. Leaves a live one alone. */
  readonly addAgain: (job: WakeUp) => Promise<void>;
  /** Takes the organization's next wake-up, or nothing; does not wait. */
  readonly take: (orgId: string) => Promise<TakenWakeUp | undefined>;
  /** Tells which organization got a wake-up, from any process. Not reliable: take from time to time by yourself. */
  readonly onAdded: (handler: (orgId: string) => void) => Promise<void>;
  readonly close: () => Promise<void>;
};

export type JobQueueOptions = {
  readonly name: string;
  readonly onError: (error: Error) => void;
  /** Whether this process takes jobs: it then keeps a BullMQ worker an organization. */
  readonly takes: boolean;
};

/** What BullMQ's workers would bring along; a root without them locks jobs for no time at all. */
const WORKER_OPTIONS = {
  autorun: false,
  skipStalledCheck: true,
  skipLockRenewal: true,
  lockDuration: 30_000,
  lockRenewTime: 15_000,
};
const ADDED_CHANNEL = "shaman_jobs";
/** How long a process that ends waits for its last jobs to be in the queue; the sweep finds what was not. */
const CLOSE_MS = 2_000;
/** The channel on which BullMQ's PostgreSQL backend tells the name of a queue that got a job. */
const BULLMQ_CHANNEL = "bullmq_jobs";

const queueName = (orgId: string): string => `shaman-${orgId}-jobs`;
const orgOfQueue = (name: string): string | undefined => /^shaman-(.+)-jobs$/.exec(name)?.[1];

type BullQueue = Queue<unknown, null, string, unknown, null, string, IQueueBackend>;
type BullWorker = Worker<unknown, null, string, IQueueBackend>;

type Backing = {
  readonly factory: BackendFactory;
  /** Tells that an add is on its way, in order behind it. */
  readonly announce: (orgId: string, added: Promise<unknown>) => Promise<void>;
  readonly onAdded: JobQueue["onAdded"];
  readonly close: () => Promise<void>;
};

const createJobQueue = (options: JobQueueOptions, backing: Backing): JobQueue => {
  const queues = new Map<string, BullQueue>();
  const workers = new Map<string, BullWorker>();
  const token = `${options.name}-${process.pid}`;
  // The factory decides the connection; BullMQ's constructor only insists on the option being there.
  const common = { connection: {}, skipWaitingForReady: true };

  const queueOf = (orgId: string): BullQueue => {
    const known = queues.get(orgId);
    if (known !== undefined) return known;
    const queue: BullQueue = new Queue(queueName(orgId), common, backing.factory);
    queue.on("error", options.onError);
    queues.set(orgId, queue);
    return queue;
  };

  const workerOf = (orgId: string): BullWorker => {
    const known = workers.get(orgId);
    if (known !== undefined) return known;
    const workerOptions = { ...common, ...WORKER_OPTIONS };
    const worker: BullWorker = new Worker(queueName(orgId), async () => null, workerOptions, backing.factory);
    worker.on("error", options.onError);
    workers.set(orgId, worker);
    return worker;
  };

  // Nobody waits for an add, so a process that ends right after it must.
  const adding = new Set<Promise<void>>();
  const add = (job: WakeUp): Promise<void> => {
    const added = addAndTell(job).finally(() => adding.delete(added));
    adding.add(added);
    return added;
  };

  const addAndTell = async (job: WakeUp): Promise<void> => {
    const added = queueOf(job.orgId).add(job.name, job.data, {
      jobId: job.jobId,
      priority: job.priority,
      attempts: 1,
      removeOnComplete: true,
      removeOnFail: true,
      ...(job.delayMs !== undefined && job.delayMs > 0 && { delay: job.delayMs }),
    });
    await Promise.all([added, backing.announce(job.orgId, added)]);
  };

  const taken = (orgId: string, job: Job | undefined): TakenWakeUp | undefined => {
    if (job === undefined) return undefined;
    const finish = async ({ takeNext }: { takeNext: boolean }): Promise<TakenWakeUp | undefined> => {
      const next = await workerOf(orgId).processJob(job, token, () => takeNext);
      return taken(orgId, next ?? undefined);
    };
    return { orgId, name: job.name, data: job.data, finish };
  };

  return {
    add,
    addAgain: async (job) => {
      // A job that a dead process had taken would swallow the add; a live one is locked and stays.
      await queueOf(job.orgId)
        .remove(job.jobId)
        .catch(() => 0);
      await add(job);
    },
    take: async (orgId) => taken(orgId, await workerOf(orgId).getNextJob(token, { block: false })),
    onAdded: backing.onAdded,
    close: async () => {
      await settledWithin(adding, CLOSE_MS);
      await Promise.allSettled([...workers.values()].map((worker) => worker.close(true)));
      await Promise.allSettled([...queues.values()].map((queue) => queue.close()));
      await backing.close();
    },
  };
};

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

/** BullMQ on Redis, all queues over one connection. */
export const createRedisJobQueue = (options: JobQueueOptions & { readonly url: Secret }): JobQueue => {
  const open = (suffix: string, patient: boolean): Redis =>
    openRedis({ url: options.url, name: `${options.name}-${suffix}`, patient, onError: options.onError });
  const redis = open("queue", options.takes);
  let subscriber: Redis | undefined;
  const root = createRedisBackend("root", { connection: redis, ...WORKER_OPTIONS }, { withBlockingConnection: false });
  root.on("error", options.onError);
  return createJobQueue(options, {
    factory: (name) => root.forQueue(name),
    announce: async (orgId, added) => {
      // BullMQ sends an add within the turn that asks for it, unless there is no connection yet.
      const isConnected = redis.status === "ready";
      await (isConnected ? setImmediate() : added.catch(() => undefined));
      await redis.publish(ADDED_CHANNEL, orgId).catch(() => undefined);
    },
    onAdded: async (handler) => {
      subscriber = open("jobs", true);
      subscriber.on("message", (_channel: string, orgId: string) => handler(orgId));
      await subscriber.subscribe(ADDED_CHANNEL);
    },
    close: async () => {
      subscriber?.disconnect();
      await root.close();
      redis.disconnect();
    },
  });
};
