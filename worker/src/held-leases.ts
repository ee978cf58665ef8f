import type { Db } from "@shaman/db";
import { renewLeases, type LeasedRun } from "@shaman/runs";
import type { Logger } from "@shaman/telemetry";

export type HeldRun = {
  readonly lease: Pick<LeasedRun, "orgId" | "runId" | "epoch">;
  /** Stops the work: the lease is gone, or somebody wants it to stop. */
  readonly stop: (reason: unknown) => void;
  /** How long the lease lasts that it has now. */
  readonly leaseMs: number;
};

export type HeldLeases = {
  readonly add: (run: HeldRun) => void;
  readonly remove: (runId: string) => void;
  readonly find: (runId: string) => HeldRun | undefined;
  readonly list: () => readonly HeldRun[];
  readonly close: () => void;
};

/** How often leases are looked for that are due; those of assigned runs are short at first. */
const LOOK_MS = 1_000;

/**
 * The runs this worker holds. Renews their leases together, an organization at a time, and stops those whose lease was
 * lost or could not be renewed in time: from then on somebody else may hold them.
 */
export const createHeldLeases = (deps: {
  readonly db: Db;
  readonly worker: string;
  readonly leaseMs: number;
  readonly renewMs: number;
  readonly lost: (runId: string) => Error;
  readonly log: Logger;
}): HeldLeases => {
  const held = new Map<string, { readonly run: HeldRun; until: number }>();

  const renewOrganization = async (orgId: string, runs: readonly HeldRun[]): Promise<void> => {
    const at = Date.now();
    const epochs = runs.map(({ lease }) => ({ runId: lease.runId, epoch: lease.epoch }));
    const ours = await renewLeases(deps.db, { orgId, worker: deps.worker, leaseMs: deps.leaseMs, held: epochs });
    for (const run of runs) {
      const entry = held.get(run.lease.runId);
      // Finished, or claimed anew, while we asked.
      if (entry?.run !== run) continue;
      if (ours.has(run.lease.runId)) entry.until = at + deps.leaseMs;
      else run.stop(deps.lost(run.lease.runId));
    }
  };

  let renewing = false;
  const renew = async (): Promise<void> => {
    if (renewing) return;
    renewing = true;
    try {
      const due = Date.now() + deps.leaseMs - deps.renewMs;
      const entries = [...held.values()].filter(({ until }) => until <= due);
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
    const now = Date.now();
    for (const { run, until } of held.values()) if (until < now) run.stop(deps.lost(run.lease.runId));
  };

  const renewal = setInterval(() => void renew(), Math.min(deps.renewMs, LOOK_MS));
  const expiry = setInterval(expire, Math.max(100, Math.floor(deps.leaseMs / 10)));

  return {
    add: (run) => void held.set(run.lease.runId, { run, until: Date.now() + run.leaseMs }),
    remove: (runId) => void held.delete(runId),
    find: (runId) => held.get(runId)?.run,
    list: () => [...held.values()].map(({ run }) => run),
    close: () => {
      clearInterval(renewal);
      clearInterval(expiry);
    },
  };
};
