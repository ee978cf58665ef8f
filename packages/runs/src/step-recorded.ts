import type { Db } from "@shaman/db";
import type { RunWatcher } from "./run-watcher.ts";

const RECORDED = `
SELECT r.last_seq, EXISTS (
  SELECT 1 FROM step s WHERE s.org_id = $1 AND s.task_id = $3 AND s.position = $4 AND s.state <> 'started') AS recorded
FROM run r WHERE r.org_id = $1 AND r.id = $2`;

/**
 * Resolves once the finished step is committed, and with it all before it. Rejects with the signal's reason when that is
 * aborted first: whoever should have recorded it has stopped listening, or time is up.
 */
export const whenStepRecorded = async (
  deps: { readonly db: Db; readonly watcher: RunWatcher },
  step: { readonly orgId: string; readonly runId: string; readonly taskId: string; readonly position: number },
  signal: AbortSignal,
): Promise<void> => {
  const watch = deps.watcher.watch(step);
  try {
    for (;;) {
      signal.throwIfAborted();
      const values = [step.orgId, step.runId, step.taskId, step.position];
      const [found] = await deps.db.batch(step.orgId, [{ name: "step_recorded", text: RECORDED, values }]);
      const row = found?.rows[0];
      if (row?.recorded === true) return;
      await watch.beyond(row?.last_seq ?? 0, signal);
    }
  } finally {
    watch.stop();
  }
};
