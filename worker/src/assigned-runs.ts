import { setTimeout } from "node:timers/promises";
import type { Db } from "@shaman/db";
import { randomText } from "@shaman/kernel";
import type { FanOut, JobQueue } from "@shaman/queue";
import { OFFER_MS, onAssigned, releaseRun, tellOffer, wakeUpOf, type ClosedTo, type LeasedRun } from "@shaman/runs";
import type { Dispatcher } from "./dispatcher.ts";

/** So soon a run is begun by somebody else whose assignment was lost; one that is begun has its lease renewed before. */
const LEASE_MS = 5_000;
/** How long runs may still come that were assigned before their senders heard of the end. */
const LATE_MS = 200;

/**
 * Offers this worker's free slots to those who take runs in, and begins what they assign to it. What it cannot begin
 * after all, because its slots were taken meanwhile, goes into the queue.
 */
export const takeAssignedRuns = async (deps: {
  readonly db: Db;
  readonly fanOut: FanOut;
  readonly queue: Pick<JobQueue, "add">;
  readonly jobs: Pick<Dispatcher, "begin" | "closedTo">;
  readonly worker: string;
  readonly leaseMs: number;
  readonly workOn: (run: LeasedRun, lease: { readonly leaseMs: number }) => Promise<void>;
  readonly onError: (error: unknown) => void;
}): Promise<{ readonly close: () => Promise<void> }> => {
  const leaseMs = Math.min(LEASE_MS, deps.leaseMs);
  const address = randomText(20);
  const tell = (closedTo: ClosedTo): void =>
    tellOffer(deps.fanOut, { worker: deps.worker, address, leaseMs, closedTo });

  const refused = new Set<string>();
  const tellRefusals = (): void => {
    const closedTo = deps.jobs.closedTo();
    tell(closedTo === "everybody" ? closedTo : [...new Set([...closedTo, ...refused])]);
    refused.clear();
  };

  const passOn = async (run: LeasedRun): Promise<void> => {
    try {
      if (await releaseRun(deps.db, run)) await deps.queue.add(wakeUpOf(run));
    } catch (error) {
      // The lease runs out, and the sweep wakes the run.
      deps.onError(error);
    }
  };

  const passing = new Set<Promise<void>>();
  const refuse = (run: LeasedRun): void => {
    if (refused.size === 0) setImmediate(tellRefusals);
    refused.add(run.orgId);
    const passed = passOn(run).finally(() => passing.delete(passed));
    passing.add(passed);
  };

  await onAssigned(deps.fanOut, address, (run) => {
    if (!deps.jobs.begin(run.orgId, () => deps.workOn(run, { leaseMs }))) refuse(run);
  });
  tell(deps.jobs.closedTo());
  const timer = setInterval(() => tell(deps.jobs.closedTo()), OFFER_MS);

  return {
    close: async () => {
      clearInterval(timer);
      tell("everybody");
      await setTimeout(LATE_MS);
      await Promise.all(passing);
    },
  };
};
