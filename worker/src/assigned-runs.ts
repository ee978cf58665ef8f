import { setTimeout } from "node:timers/promises";
import type { Db } from "@shaman/db";
import { randomText } from "@shaman/kernel";
import type { FanOut, JobQueue } from "@shaman/queue";
import {
  ASSIGNED_LEASE_MS,
  callOut,
  isOnRecord,
  OFFER_MS,
  onAssigned,
  releaseRun,
  renewLeases,
  tellOffer,
  wakeUpOf,
  type AssignedRun,
  type ClosedTo,
  type LeasedRun,
} from "@shaman/runs";
import type { Dispatcher } from "./dispatcher.ts";

/** How long runs may still come that were assigned before their senders heard of the end. */
const LATE_MS = 200;

/**
 * Offers this worker's free slots to those who take runs in, and begins what they assign to it. What it cannot begin
 * after all, because its slots were taken meanwhile, goes into the queue. It offers only while it hears itself on the way
 * on which it would hear of runs.
 */
export const takeAssignedRuns = async (deps: {
  readonly db: Db;
  readonly fanOut: FanOut;
  readonly queue: Pick<JobQueue, "add">;
  readonly jobs: Pick<Dispatcher, "begin" | "closedTo">;
  readonly worker: string;
  readonly leaseMs: number;
  readonly workOn: (run: LeasedRun, lease: { readonly leaseMs: number }) => Promise<void>;
  /** Stops the work on a run that was announced and will not come on record. */
  readonly withdraw: (runId: string) => void;
  readonly onError: (error: unknown) => void;
}): Promise<{ readonly close: () => Promise<void> }> => {
  const { db, fanOut, queue, jobs, worker } = deps;
  const leaseMs = Math.min(ASSIGNED_LEASE_MS, deps.leaseMs);
  const address = randomText(20);
  const tell = (closedTo: ClosedTo): void => tellOffer(fanOut, { worker, address, leaseMs, closedTo });

  const refused = new Set<string>();
  const tellRefusals = (): void => {
    const closedTo = jobs.closedTo();
    tell(closedTo === "everybody" ? closedTo : [...new Set([...closedTo, ...refused])]);
    refused.clear();
  };

  const passOn = async (run: LeasedRun): Promise<void> => {
    try {
      if (run.announced && !(await isOnRecord(db, run))) return;
      if (await releaseRun(db, run)) await queue.add(wakeUpOf(run));
    } catch (error) {
      // The sweep wakes the run: soon where it still has its lease, else when it has waited long in the queue.
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

  const start = async ({ run, acceptedAt }: AssignedRun): Promise<void> => {
    const ageMs = Date.now() - acceptedAt.getTime();
    if (Math.abs(ageMs) < leaseMs / 5) return deps.workOn(run, { leaseMs: leaseMs - Math.max(0, ageMs) });
    // Somebody was asleep, or clocks differ. It may be done already.
    if (run.announced && !(await isOnRecord(db, run))) return;
    const { orgId, runId, epoch } = run;
    const ours = await renewLeases(db, { orgId, worker, leaseMs: deps.leaseMs, held: [{ runId, epoch }] });
    if (ours.has(runId)) await deps.workOn({ ...run, announced: false }, { leaseMs: deps.leaseMs });
  };

  await onAssigned(fanOut, address, {
    run: (assigned) => {
      if (!jobs.begin(assigned.run.orgId, () => start(assigned))) refuse(assigned.run);
    },
    withdrawn: deps.withdraw,
    heard: () => tell(jobs.closedTo()),
  });
  callOut(fanOut, address);
  const timer = setInterval(callOut, OFFER_MS, fanOut, address);

  return {
    close: async () => {
      clearInterval(timer);
      tell("everybody");
      await setTimeout(LATE_MS);
      await Promise.all(passing);
    },
  };
};
