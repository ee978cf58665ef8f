import type { JobQueue, TakenWakeUp } from "@shaman/queue";

export type Dispatcher = {
  /** There may be a job of this organization. */
  readonly nudge: (orgId: string) => void;
  /** Takes nothing new from now on; resolves when nothing is running. */
  readonly drain: () => Promise<void>;
  readonly running: () => number;
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

/**
 * Serves all organizations' queues from one process, in turn. While another organization waits, none holds more than
 * half of the slots, and none ever more than its cap over all workers.
 */
export const createDispatcher = (deps: DispatcherDeps): Dispatcher => {
  // Organizations that may have a job, the next to be served first.
  const ready = new Set<string>();
  // Organizations whose queue is being asked: one question at a time each.
  const busy = new Set<string>();
  const held = new Map<string, number>();
  let used = 0;
  let nudges = 0;
  let draining = false;
  const idle = Promise.withResolvers<void>();

  const reserve = (orgId: string): void => {
    used += 1;
    held.set(orgId, (held.get(orgId) ?? 0) + 1);
  };

  const release = (orgId: string): void => {
    used -= 1;
    const left = (held.get(orgId) ?? 1) - 1;
    if (left === 0) held.delete(orgId);
    else held.set(orgId, left);
    if (draining && used === 0) idle.resolve();
  };

  const othersWait = (orgId: string): boolean => ready.size > (ready.has(orgId) ? 1 : 0);

  const mayStart = (orgId: string): boolean => {
    if (draining || used >= deps.slots) return false;
    const own = held.get(orgId) ?? 0;
    if (own + deps.heldElsewhere(orgId) >= deps.capPerOrganization) return false;
    return own === 0 || own < Math.max(1, Math.floor(deps.slots / 2)) || !othersWait(orgId);
  };

  const nextOrganization = (): string | undefined => {
    for (const orgId of ready) if (!busy.has(orgId) && mayStart(orgId)) return orgId;
    return undefined;
  };

  const pump = (): void => {
    for (let orgId = nextOrganization(); orgId !== undefined; orgId = nextOrganization()) {
      // To the end of the line; it leaves the line when its queue turns out to be empty.
      ready.delete(orgId);
      ready.add(orgId);
      busy.add(orgId);
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
    reserve(orgId);
    let reserved = true;
    try {
      let nudgesBefore = nudges;
      let job = await deps.queue.take(orgId);
      while (job !== undefined) {
        reserved = false;
        // Whoever just got a slot stands behind all who wait, also those who came while its queue was asked.
        if (ready.delete(orgId)) ready.add(orgId);
        void start(job);
        const takeNext = mayStart(orgId);
        if (takeNext) reserve(orgId);
        reserved = takeNext;
        nudgesBefore = nudges;
        job = await job.finish({ takeNext });
      }
      if (reserved && nudges === nudgesBefore) ready.delete(orgId);
    } catch (error) {
      deps.onError(error);
      ready.delete(orgId);
      setTimeout(() => nudge(orgId), RETRY_MS).unref();
    } finally {
      busy.delete(orgId);
      if (reserved) release(orgId);
      pump();
    }
  };

  const nudge = (orgId: string): void => {
    if (draining) return;
    nudges += 1;
    ready.add(orgId);
    pump();
  };

  return {
    nudge,
    running: () => used,
    drain: () => {
      draining = true;
      if (used === 0) idle.resolve();
      return idle.promise;
    },
  };
};
