import type { Db } from "@shaman/db";

// A call's start is committed by the internal server under the run's lease. One that was on its way while the lease holder
// ended the run may come after that end, and then nobody else will ever look at its task again.
const FIND = `
SELECT DISTINCT t.org_id, t.run_id FROM task t JOIN run r ON r.org_id = t.org_id AND r.id = t.run_id
WHERE t.parent_task_id IS NOT NULL AND t.state NOT IN ('completed', 'failed', 'canceled', 'rejected')
  AND r.finished_at IS NOT NULL
LIMIT $1`;

/** Of several that sweep at once, one has the run at a time; the others then find nothing left, in a statement of its own. */
const LOCK = `SELECT id FROM run WHERE org_id = $1 AND id = $2 FOR NO KEY UPDATE`;

const END = `
WITH stray AS MATERIALIZED (
  SELECT t.id, row_number() OVER (ORDER BY t.created_at, t.id)::integer AS place, count(*) OVER ()::integer AS all_of_them
  FROM task t WHERE t.org_id = $1 AND t.run_id = $2 AND t.parent_task_id IS NOT NULL
    AND t.state NOT IN ('completed', 'failed', 'canceled', 'rejected')
), numbered AS (
  UPDATE run SET last_seq = last_seq + (SELECT max(all_of_them) FROM stray)
  WHERE org_id = $1 AND id = $2 AND finished_at IS NOT NULL AND EXISTS (SELECT FROM stray)
  RETURNING last_seq - (SELECT max(all_of_them) FROM stray) AS seq_before, lease_epoch
), told AS (
  INSERT INTO run_event (org_id, run_id, seq, task_id, type, payload, lease_epoch)
  SELECT $1, $2, n.seq_before + s.place, s.id, 'task.status',
    jsonb_build_object('state', 'canceled', 'timestamp', $3::text), n.lease_epoch FROM stray s, numbered n
)
UPDATE task SET state = 'canceled', status_message = NULL, status_at = now() FROM stray s, numbered
WHERE task.org_id = $1 AND task.id = s.id`;

const MAX_RUNS = 1_000;

/** Ends the tasks of called agents that are open although their run has ended. Gives how many runs had such. */
export const endStrays = async (deps: { readonly db: Db }): Promise<number> => {
  // Without a name, so that it is planned each time: kept from when the tables were empty, a plan might read all tasks.
  const { rows } = await deps.db.unscoped((tx) =>
    tx.query<{ org_id: string; run_id: string }>({ text: FIND, values: [MAX_RUNS] }),
  );
  for (const { org_id: orgId, run_id: runId } of rows) {
    await deps.db.batch(orgId, [
      { name: "lock_run_of_strays", text: LOCK, values: [orgId, runId] },
      { name: "end_strays", text: END, values: [orgId, runId, new Date().toISOString()] },
    ]);
  }
  return rows.length;
};
