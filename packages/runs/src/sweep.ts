import type { Db } from "@shaman/db";
import type { JobQueue } from "@shaman/queue";
import { FEW, inOrderOfLocks } from "./few.ts";
import { retryJobOf } from "./retry.ts";
import { wakeUpOf } from "./wake-up.ts";

const STRANDED = `
SELECT org_id, id, wake, priority FROM run r
WHERE finished_at IS NULL AND (lease_until IS NULL OR lease_until < now())
  AND (enqueued_at < now() - $1 * interval '1 millisecond' OR enqueued_at < lease_until)
  AND (wake_at IS NULL OR wake_at <= now())
  AND (state <> 'suspended' OR EXISTS (
    SELECT 1 FROM task_command c WHERE c.org_id = r.org_id AND c.run_id = r.id AND c.applied_at IS NULL))
ORDER BY enqueued_at LIMIT $2`;

const SWEEP_LIMIT = 1_000;
/** A job is taken off the queue as soon as it is taken; so long ago, whoever did died in between. */
const ABANDONED_MS = 35_000;

const MARK_SWEPT = `
UPDATE run SET enqueued_at = now() FROM jsonb_to_recordset($1::jsonb) AS i (org_id text, run_id text, few integer)
WHERE run.org_id = i.org_id AND run.id = i.run_id AND i.few = 1`;

export type SweepDeps = {
  readonly db: Db;
  readonly queue: JobQueue;
  /** Told of each organization that has something to do: its queue may have held the job all the while, and tells nothing then. */
  readonly nudge: (orgId: string) => void;
};

/**
 * Wakes every run that should go on and that nobody holds: its worker died, or its job was lost. A lease that ran out says
 * the former; else `afterMs` is how long ago it must have been put into the queue. Gives how many were found.
 */
export const sweepRuns = async (deps: SweepDeps, options: { readonly afterMs: number }): Promise<number> => {
  const { rows } = await deps.db.unscoped((tx) =>
    tx.query<{ org_id: string; id: string; wake: number; priority: number }>({
      name: "sweep_runs",
      text: STRANDED,
      values: [options.afterMs, SWEEP_LIMIT],
    }),
  );
  for (const [orgId, runs] of Map.groupBy(rows, (row) => row.org_id)) {
    await deps.queue.dropAbandoned(orgId, ABANDONED_MS);
    for (const run of runs) {
      await deps.queue.addAgain(wakeUpOf({ orgId, runId: run.id, wake: run.wake, priority: run.priority }));
    }
    deps.nudge(orgId);
    await deps.db.batch(orgId, [
      {
        name: "mark_swept",
        text: MARK_SWEPT,
        values: [JSON.stringify(inOrderOfLocks(runs.map(({ id }) => ({ org_id: orgId, run_id: id, ...FEW }))))],
      },
    ]);
  }
  return rows.length;
};

const LOST_RETRIES = `
SELECT c.org_id, c.id FROM task_command c JOIN run r ON r.org_id = c.org_id AND r.id = c.run_id
WHERE c.kind = 'retry' AND c.applied_at IS NULL AND r.state = 'failed'
  AND c.created_at < now() - $1 * interval '1 millisecond'
ORDER BY c.created_at LIMIT $2`;

/** Adds again the jobs of retries that were asked for `afterMs` ago and that no worker has begun. Gives their number. */
export const sweepRetries = async (deps: SweepDeps, options: { readonly afterMs: number }): Promise<number> => {
  const { rows } = await deps.db.unscoped((tx) =>
    tx.query<{ org_id: string; id: string }>({
      name: "sweep_retries",
      text: LOST_RETRIES,
      values: [options.afterMs, SWEEP_LIMIT],
    }),
  );
  for (const { org_id: orgId, id: commandId } of rows) {
    await deps.queue.addAgain(retryJobOf({ orgId, commandId }));
    deps.nudge(orgId);
  }
  return rows.length;
};

const READY = `
SELECT DISTINCT org_id FROM run
WHERE finished_at IS NULL AND enqueued_at < now() - interval '1 second'
  AND (state = 'submitted' AND (wake_at IS NULL OR wake_at <= now()) OR state = 'working' AND lease_until < now())`;

/** Organizations with runs that wait to be worked on, or whose worker died: where a dispatcher looks that may have missed a nudge. */
export const listWaitingOrganizations = async (db: Db): Promise<readonly string[]> => {
  const { rows } = await db.unscoped((tx) => tx.query<{ org_id: string }>({ name: "waiting_orgs", text: READY }));
  return rows.map((row) => row.org_id);
};

const LEASED_ELSEWHERE = `
SELECT org_id, count(*) AS held FROM run
WHERE finished_at IS NULL AND lease_until > now() AND NOT starts_with(worker, $1 || ':') GROUP BY org_id`;

/** How many runs of each organization other workers hold: in-flight caps count over all workers. */
export const countLeasedElsewhere = async (db: Db, worker: string): Promise<ReadonlyMap<string, number>> => {
  const { rows } = await db.unscoped((tx) =>
    tx.query<{ org_id: string; held: number }>({ name: "leased_elsewhere", text: LEASED_ELSEWHERE, values: [worker] }),
  );
  return new Map(rows.map((row) => [row.org_id, row.held]));
};
