import type { Db } from "@shaman/db";
import { stepRecord, type StepRecord } from "./step.ts";

/** The task's recorded steps in order: what a later attempt replays. */
export const loadSteps = async (
  db: Db,
  task: { readonly orgId: string; readonly taskId: string },
): Promise<readonly StepRecord[]> => {
  const [found] = await db.batch(task.orgId, [
    {
      name: "load_steps",
      text: `SELECT position, kind, name, input_hash AS "inputHash", state, output, child_task_id AS "childTaskId",
          CASE WHEN kind IN ('call', 'approval') THEN input END AS input
        FROM step WHERE org_id = $1 AND task_id = $2 ORDER BY position`,
      values: [task.orgId, task.taskId],
    },
  ]);
  return (found?.rows ?? []).map((row) =>
    stepRecord.parse({
      ...row,
      input: row.input ?? undefined,
      output: row.output ?? undefined,
      childTaskId: row.childTaskId ?? undefined,
    }),
  );
};
