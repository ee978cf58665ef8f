import type { Db } from "@shaman/db";

// A command that is carried out is no longer open, but in the same moment the run is canceled.
const REQUESTED = `
SELECT 1 FROM task_command WHERE org_id = $1 AND run_id = $2 AND kind = 'cancel' AND applied_at IS NULL
UNION ALL
SELECT 1 FROM run WHERE org_id = $1 AND id = $2 AND state = 'canceled'`;

/** Whether somebody has asked for the run to be canceled, carried out already or not. */
export const isCancelRequested = async (
  db: Db,
  run: { readonly orgId: string; readonly runId: string },
): Promise<boolean> => {
  const values = [run.orgId, run.runId];
  const [found] = await db.batch(run.orgId, [{ name: "cancel_requested", text: REQUESTED, values }]);
  return (found?.rows.length ?? 0) > 0;
};
