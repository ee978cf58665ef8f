import { createTally } from "@shaman/kernel";
import type { JobQueue, TakenWakeUp } from "@shaman/queue";

export type Dispatcher = {
  /** There may be a job of this organization. */
  readonly nudge: (orgId: string) => void;
  /** Takes nothing new from now on; resolves when nothing is running. */
  readonly drain: () => Promise<void>;
  /** How many runs are worked on, of all organizations or of one. */
  readonly running: (orgId?: string) => number;
};

export type DispatcherDeps = {
  readonly queue: Pick<JobQueue, "take">;
  readonly slots: number;
  readonly capPerOrganization: number;
  /** Runs of the organization that other workers hold. */
  readonly heldElsewhere: (orgId: string) => number;
  /** Does what the job asks for. It must make sure by itself that it alone does it: the job leaves the queue meanwhile. */
  readonly execute: (job: TakenWakeUp) => Promise<void>;
  readonly onError: (error: unknown) => void;
};

const RETRY_MS = 500;
/** Questions to one queue at a time: what a burst of nudges brings is taken together, and works together from then on. */
const AT_ONCE = 8;

/**
 * Serves all organizations' queues from one process, in turn. While another organization waits, none holds more than
 * half of the slots, and none ever more than its cap over all workers.
 */
export const createDispatcher = (deps: DispatcherDeps): Dispatcher => {
  // Organizations that may have a job, the next to be served first.
  const ready = new Set<string>();
  // Questions to an organization's queue that are under way.
  const asking = createTally();
  // Nudges of an organization for which no job has been taken yet.
  const expected = new Map<string, number>();
  const held = createTally();
  // Organizations whose queue could not be asked and will be again.
  const retrying = new Set<string>();
  let nudges = 0;
  let draining = false;
  const idle = Promise.withResolvers<void>();

  const release = (orgId: string): void => {
    held.remove(orgId);
    if (draining && held.total() === 0) idle.resolve();
  };

  const othersWait = (orgId: string): boolean => ready.size > (ready.has(orgId) ? 1 : 0);

  const mayStart = (orgId: string): boolean => {
    if (draining || held.total() >= deps.slots) return false;
    const own = held.of(orgId);
    if (own + deps.heldElsewhere(orgId) >= deps.capPerOrganization) return false;
    return own === 0 || own < Math.max(1, Math.floor(deps.slots / 2)) || !othersWait(orgId);
  };

  /** One question at a time; several where nobody else waits and as many jobs were told of. */
  const mayAsk = (orgId: string): boolean => {
    const under = asking.of(orgId);
    if (under === 0) return true;
    return under < Math.min(AT_ONCE, expected.get(orgId) ?? 0) && !othersWait(orgId);
  };

  const nextOrganization = (): string | undefined => {
    for (const orgId of ready) if (mayAsk(orgId) && mayStart(orgId)) return orgId;
    return undefined;
  };

  const pump = (): void => {
    for (let orgId = nextOrganization(); orgId !== undefined; orgId = nextOrganization()) {
      // To the end of the line; it leaves the line when its queue turns out to be empty.
      ready.delete(orgId);
      ready.add(orgId);
      asking.add(orgId);
      void serve(orgId);
    }
  };

  const start = async (job: TakenWakeUp): Promise<void> => {
    try {
      await deps.execute(job);
    } catch (error) {
      deps.onError(error);
    } finally {
      release(job.orgId);
      pump();
    }
  };

  /** Takes one job after the other until the queue is empty or no slot is left. A slot is reserved before each take. */
  const serve = async (orgId: string): Promise<void> => {
    held.add(orgId);
    let reserved = true;
    try {
      let nudgesBefore = nudges;
      let job = await deps.queue.take(orgId);
      while (job !== undefined) {
        reserved = false;
        // Whoever just got a slot stands behind all who wait, also those who came while its queue was asked.
        if (ready.delete(orgId)) ready.add(orgId);
        void start(job);
        expected.set(orgId, Math.max(0, (expected.get(orgId) ?? 0) - 1));
        const takeNext = mayStart(orgId);
        if (takeNext) held.add(orgId);
        reserved = takeNext;
        nudgesBefore = nudges;
        job = await job.finish({ takeNext });
      }
      if (reserved && nudges === nudgesBefore) {
        ready.delete(orgId);
        expected.delete(orgId);
      }
    } catch (error) {
      deps.onError(error);
      ready.delete(orgId);
      expected.delete(orgId);
      retryLater(orgId);
    } finally {
      asking.remove(orgId);
      if (reserved) release(orgId);
      pump();
    }
  };

  const retryLater = (orgId: string): void => {
    if (retrying.has(orgId)) return;
    retrying.add(orgId);
    const retry = (): void => {
      retrying.delete(orgId);
      nudge(orgId);
    };
    setTimeout(retry, RETRY_MS).unref();
  };

  const nudge = (orgId: string): void => {
    if (draining) return;
    nudges += 1;
    ready.add(orgId);
    expected.set(orgId, (expected.get(orgId) ?? 0) + 1);
    pump();
  };

  return {
    nudge,
    running: (orgId) => (orgId === undefined ? held.total() : held.of(orgId)),
    drain: () => {
      draining = true;
      if (held.total() === 0) idle.resolve();
      return idle.promise;
    },
  };
};
