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
      text: `SELECT position, kind, name, input_hash AS "inputHash", state, output FROM step
        WHERE org_id = $1 AND task_id = $2 ORDER BY position`,
      values: [task.orgId, task.taskId],
    },
  ]);
  return (found?.rows ?? []).map((row) => stepRecord.parse({ ...row, output: row.output ?? undefined }));
};
