import { createTally } from "@shaman/kernel";
import type { HeardWakeUp, JobQueue, TakenJob } from "@shaman/queue";
import type { ClosedTo } from "@shaman/runs";

export type Dispatcher = {
  /** There may be a job of this organization. */
  readonly nudge: (orgId: string) => void;
  /** Begins what needs no job, if its organization may have one more slot now. Gives whether it did. */
  readonly begin: (orgId: string, work: () => Promise<void>) => boolean;
  /** Organizations of which `begin` would begin nothing; those that hold as many slots as they may show it when they try. */
  readonly closedTo: () => ClosedTo;
  /** Takes nothing new from now on; resolves when nothing is running. */
  readonly drain: () => Promise<void>;
  /** How many runs are worked on, of all organizations or of one. */
  readonly running: (orgId?: string) => number;
};

export type DispatcherDeps = {
  readonly queue: Pick<JobQueue, "take" | "giveBack">;
  readonly slots: number;
  readonly capPerOrganization: number;
  /** Runs of the organization that other workers hold. */
  readonly heldElsewhere: (orgId: string) => number;
  /** Does what it was woken for. It must make sure by itself that it alone does it: the job leaves the queue meanwhile. */
  readonly execute: (wakeUp: HeardWakeUp) => Promise<void>;
  readonly onError: (error: unknown) => void;
};

const RETRY_MS = 500;

/**
 * Serves all organizations' queues from one process, in turn. While another organization waits, none holds more than
 * half of the slots, and none ever more than its cap over all workers.
 */
export const createDispatcher = (deps: DispatcherDeps): Dispatcher => {
  // Organizations that may have a job, the next to be served first.
  const ready = new Set<string>();
  // Organizations whose queue is being asked.
  const asking = new Set<string>();
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

  const nextOrganization = (): string | undefined => {
    for (const orgId of ready) if (!asking.has(orgId) && mayStart(orgId)) return orgId;
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

  const start = async (orgId: string, work: () => Promise<void>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      deps.onError(error);
    } finally {
      release(orgId);
      pump();
    }
  };

  /** Starts what the job woke as far as there are slots; that of the first is reserved. Gives the rest. */
  const startAll = ({ orgId, wakeUps }: TakenJob): readonly HeardWakeUp[] => {
    if (wakeUps.length === 0) release(orgId);
    for (const [i, wakeUp] of wakeUps.entries()) {
      if (i > 0) {
        if (!mayStart(orgId)) return wakeUps.slice(i);
        held.add(orgId);
      }
      void start(orgId, () => deps.execute(wakeUp));
    }
    return [];
  };

  /** Takes one job after the other until the queue is empty or no slot is left. A slot is reserved before each take. */
  const serve = async (orgId: string): Promise<void> => {
    held.add(orgId);
    let reserved = true;
    try {
      let nudgesBefore = nudges;
      let job = await deps.queue.take(orgId);
      while (job !== undefined) {
        // Whoever just got a slot stands behind all who wait, also those who came while its queue was asked.
        if (ready.delete(orgId)) ready.add(orgId);
        reserved = false;
        const rest = startAll(job);
        const takeNext = mayStart(orgId);
        if (takeNext) held.add(orgId);
        reserved = takeNext;
        nudgesBefore = nudges;
        // What cannot be given back is found by the sweep.
        if (rest.length > 0) await deps.queue.giveBack(rest).catch(deps.onError);
        job = await job.finish({ takeNext });
      }
      if (reserved && nudges === nudgesBefore) ready.delete(orgId);
    } catch (error) {
      deps.onError(error);
      ready.delete(orgId);
      retryLater(orgId);
    } finally {
      asking.delete(orgId);
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
    pump();
  };

  return {
    nudge,
    begin: (orgId, work) => {
      // What is queued comes first.
      if (ready.has(orgId) || !mayStart(orgId)) return false;
      held.add(orgId);
      void start(orgId, work);
      return true;
    },
    closedTo: () => {
      return draining || held.total() >= deps.slots ? "everybody" : [...ready];
    },
    running: (orgId) => (orgId === undefined ? held.total() : held.of(orgId)),
    drain: () => {
      draining = true;
      if (held.total() === 0) idle.resolve();
      return idle.promise;
    },
  };
};
