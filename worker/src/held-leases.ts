import type { Db } from "@shaman/db";
import { renewLeases, type LeasedRun } from "@shaman/runs";
import type { Logger } from "@shaman/telemetry";

export type HeldRun = {
  readonly lease: Pick<LeasedRun, "orgId" | "runId" | "epoch" | "announced">;
  /** Stops the work: the lease is gone, or somebody wants it to stop. */
  readonly stop: (reason: unknown) => void;
  /** How long the lease lasts that it has now. */
  readonly leaseMs: number;
};

export type HeldLeases = {
  readonly add: (run: HeldRun) => void;
  readonly remove: (run: HeldRun) => void;
  readonly find: (runId: string) => HeldRun | undefined;
  readonly list: () => readonly HeldRun[];
  readonly close: () => void;
};

/** How often, at least, leases are looked for that will be due before the next look, and those that have run out. */
const LOOK_MS = 1_000;
const EXPIRY_LOOK_MS = 100;

/**
 * The runs this worker holds. Renews their leases together, an organization at a time, and stops those whose lease was
 * lost or could not be renewed in time: from then on somebody else may hold them.
 */
export const createHeldLeases = (deps: {
  readonly db: Pick<Db, "batch">;
  readonly worker: string;
  readonly leaseMs: number;
  readonly renewMs: number;
  readonly lost: (runId: string) => Error;
  readonly log: Logger;
}): HeldLeases => {
  const held = new Map<string, { readonly run: HeldRun; until: number; dueAt: number; isSeen: boolean }>();
  const renewMs = Math.min(deps.renewMs, deps.leaseMs / 2);
  const lookMs = Math.min(LOOK_MS, renewMs);

  const renewOrganization = async (orgId: string, runs: readonly HeldRun[]): Promise<void> => {
    const at = performance.now();
    const epochs = runs.map(({ lease }) => ({ runId: lease.runId, epoch: lease.epoch }));
    const ours = await renewLeases(deps.db, { orgId, worker: deps.worker, leaseMs: deps.leaseMs, held: epochs });
    for (const run of runs) {
      const entry = held.get(run.lease.runId);
      // Finished, or claimed anew, while we asked.
      if (entry?.run !== run) continue;
      if (ours.has(run.lease.runId)) {
        Object.assign(entry, { until: at + deps.leaseMs, dueAt: at + renewMs, isSeen: true });
      } else if (entry.isSeen) run.stop(deps.lost(run.lease.runId));
    }
  };

  let renewing = false;
  const renew = async (): Promise<void> => {
    if (renewing) return;
    renewing = true;
    try {
      const nextLook = performance.now() + lookMs;
      const entries = [...held.values()].filter(({ dueAt }) => dueAt < nextLook);
      const byOrg = Map.groupBy(entries, ({ run }) => run.lease.orgId);
      for (const [orgId, entries] of byOrg) {
        await renewOrganization(
          orgId,
          entries.map(({ run }) => run),
        );
      }
    } catch (error) {
      deps.log.error("lease_renewal_failed", error);
    } finally {
      renewing = false;
    }
  };

  const expire = (): void => {
    const now = performance.now();
    for (const { run, until } of held.values()) if (until < now) run.stop(deps.lost(run.lease.runId));
  };

  const renewal = setInterval(() => void renew(), lookMs);
  const expiry = setInterval(expire, EXPIRY_LOOK_MS);

  return {
    add: (run) => {
      const now = performance.now();
      // A lease that is shorter than others is an assigned run's, and made as long as them at once.
      const dueAt = run.leaseMs < deps.leaseMs ? now : now + renewMs;
      // An announced run may not be there yet when it is first asked for; it has as long as its lease to come on record.
      held.set(run.lease.runId, { run, until: now + run.leaseMs, dueAt, isSeen: !run.lease.announced });
    },
    remove: (run) => {
      if (held.get(run.lease.runId)?.run === run) held.delete(run.lease.runId);
    },
    find: (runId) => held.get(runId)?.run,
    list: () => [...held.values()].map(({ run }) => run),
    close: () => {
      clearInterval(renewal);
      clearInterval(expiry);
    },
  };
};
