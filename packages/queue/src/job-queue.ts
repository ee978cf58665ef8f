import { type BackendFactory, type IQueueBackend, type Job, Queue, Worker } from "bullmq";
import { createLater } from "./later.ts";
import { settledWithin } from "./settled-within.ts";
import { fromJob, MAX_TOGETHER, toJob, type HeardWakeUp, type WakeUp } from "./wake-up.ts";

/** One job of the queue: the wake-ups that were added together. */
export type TakenJob = {
  readonly orgId: string;
  readonly wakeUps: readonly HeardWakeUp[];
  /** Removes it from the queue and, if there is another of this organization, takes that one. */
  readonly finish: (options: { readonly takeNext: boolean }) => Promise<TakenJob | undefined>;
};

export type JobQueue = {
  /**
   * What one turn of the event loop adds for an organization, with the same priority, becomes one job. Rejects while the queue
   * is away; this process then tries again by itself as long as it lives.
   */
  readonly add: (job: WakeUp) => Promise<void>;
  /**
   * Adds again what may have been lost, or was left half taken by itself by a dead process. What waits keeps its place, and a
   * live one is left alone.
   */
  readonly addAgain: (job: WakeUp) => Promise<void>;
  /** Takes the organization's next job, or nothing; does not wait. */
  readonly take: (orgId: string) => Promise<TakenJob | undefined>;
  /** Puts back what was taken with others and cannot be begun here. It comes before its equals. */
  readonly giveBack: (wakeUps: readonly HeardWakeUp[]) => Promise<void>;
  /** Removes what was taken so long ago and never finished: whoever took it died. Others take it no more. */
  readonly dropAbandoned: (orgId: string, takenForMs: number) => Promise<void>;
  /** Tells which organization got a job, from any process. Not reliable: take from time to time by yourself. */
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
export const WORKER_OPTIONS = {
  autorun: false,
  skipStalledCheck: true,
  skipLockRenewal: true,
  lockDuration: 30_000,
  lockRenewTime: 15_000,
};
/** How long a process that ends waits for its last jobs to be in the queue; the sweep finds what was not. */
const CLOSE_MS = 2_000;
const ABANDONED_AT_ONCE = 1_000;
/** How long after an add that failed it is tried again. */
const LATER_MS = 500;

const queueName = (orgId: string): string => `shaman-${orgId}-jobs`;
export const orgOfQueue = (name: string): string | undefined => /^shaman-(.+)-jobs$/.exec(name)?.[1];

type BullQueue = Queue<unknown, null, string, unknown, null, string, IQueueBackend>;
type BullWorker = Worker<unknown, null, string, IQueueBackend>;

/** Where the queues are. */
export type Backing = {
  readonly factory: BackendFactory;
  /** Tells that an add is on its way, in order behind it. */
  readonly announce: (orgId: string, added: Promise<unknown>) => Promise<void>;
  readonly onAdded: JobQueue["onAdded"];
  readonly close: () => Promise<void>;
};

type WakeUps = readonly [HeardWakeUp, ...HeardWakeUp[]];
type Placing = { readonly delayMs?: number; readonly isAhead?: boolean };

/** Wake-ups that are added in one turn of the event loop, and what came of it. */
type Adding = { readonly wakeUps: [HeardWakeUp, ...HeardWakeUp[]]; readonly added: Promise<void> };

/** BullMQ serves lower numbers first. Each of our priorities has two, so that what is given back comes before its equals. */
const toBullPriority = (priority: number, isAhead: boolean): number => 2 * priority - (isAhead ? 1 : 0);
const fromBullPriority = (priority: number): number => Math.ceil(priority / 2);

/** Resolves when everything has run that this turn of the event loop has begun. */
const endOfTurn = (): Promise<void> => new Promise((resolve) => process.nextTick(resolve));

/** The queues of all organizations, over what `backing` has for them. */
export const createJobQueue = (options: JobQueueOptions, backing: Backing): JobQueue => {
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
  const keepUntilAdded = (added: Promise<void>): Promise<void> => {
    const kept = added.finally(() => adding.delete(kept));
    adding.add(kept);
    return kept;
  };

  // By organization and priority.
  const turn = new Map<string, Adding>();
  const add = (wakeUp: WakeUp): Promise<void> => {
    const { delayMs = 0 } = wakeUp;
    if (delayMs > 0) return keepUntilAdded(addJob([wakeUp], { delayMs }));
    const key = `${wakeUp.orgId} ${wakeUp.priority}`;
    const same = turn.get(key);
    if (same !== undefined && same.wakeUps.length < MAX_TOGETHER) {
      same.wakeUps.push(wakeUp);
      return same.added;
    }
    const wakeUps: Adding["wakeUps"] = [wakeUp];
    const send = async (): Promise<void> => {
      await endOfTurn();
      if (turn.get(key)?.wakeUps === wakeUps) turn.delete(key);
      await addJob(wakeUps);
    };
    const added = keepUntilAdded(send());
    turn.set(key, { wakeUps, added });
    return added;
  };

  const later = createLater(LATER_MS);
  const addJob = async (wakeUps: WakeUps, placing: Placing = {}): Promise<void> => {
    try {
      await tryToAdd(wakeUps, placing);
    } catch (error) {
      later.put(() => tryToAdd(wakeUps, placing));
      throw error;
    }
  };

  const tryToAdd = async (wakeUps: WakeUps, { delayMs, isAhead = false }: Placing): Promise<void> => {
    const [{ orgId, priority }] = wakeUps;
    const { name, data, jobId } = toJob(wakeUps);
    const added = queueOf(orgId).add(name, data, {
      jobId,
      priority: toBullPriority(priority, isAhead),
      attempts: 1,
      removeOnComplete: true,
      removeOnFail: true,
      ...(delayMs !== undefined && { delay: delayMs }),
    });
    await Promise.all([added, backing.announce(orgId, added)]);
  };

  const taken = (orgId: string, job: Job | undefined): TakenJob | undefined => {
    if (job === undefined) return undefined;
    const finish = async ({ takeNext }: { takeNext: boolean }): Promise<TakenJob | undefined> => {
      const next = await workerOf(orgId).processJob(job, token, () => takeNext);
      return taken(orgId, next ?? undefined);
    };
    const { name, data, id: jobId = "" } = job;
    const wakeUps = fromJob({ orgId, priority: fromBullPriority(job.priority) }, { jobId, name, data });
    if (wakeUps.length === 0) options.onError(new Error(`The job ${jobId} of ${orgId} cannot be read and is dropped`));
    return { orgId, wakeUps, finish };
  };

  return {
    add,
    addAgain: async (wakeUp) => {
      const queue = queueOf(wakeUp.orgId);
      // A job that a dead process had taken would swallow the add; a live one is locked and stays.
      if ((await queue.getJobState(wakeUp.jobId)) === "active") await queue.remove(wakeUp.jobId).catch(() => 0);
      // By itself, so that its id is the job's: one that waits under it keeps its place.
      await keepUntilAdded(addJob([wakeUp]));
    },
    take: async (orgId) => taken(orgId, await workerOf(orgId).getNextJob(token, { block: false })),
    giveBack: async ([first, ...others]) => {
      if (first !== undefined) await keepUntilAdded(addJob([first, ...others], { isAhead: true }));
    },
    dropAbandoned: async (orgId, takenForMs) => {
      const taken = await queueOf(orgId).getActive(0, ABANDONED_AT_ONCE - 1);
      const abandoned = taken.filter(({ processedOn = 0 }) => processedOn <= Date.now() - takenForMs);
      await Promise.all(abandoned.map((job) => job.remove().catch(() => undefined)));
    },
    onAdded: backing.onAdded,
    close: async () => {
      later.close();
      await settledWithin(adding, CLOSE_MS);
      await Promise.allSettled([...workers.values()].map((worker) => worker.close(true)));
      await Promise.allSettled([...queues.values()].map((queue) => queue.close()));
      await backing.close();
    },
  };
};
