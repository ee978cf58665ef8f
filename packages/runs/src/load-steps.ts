import type { Db } from "@shaman/db";
import { z } from "zod";
import { stepRecord, type StepRecord } from "./step.ts";

const namesMedia = z.object({ media: z.array(z.object({ sha256: z.string() })) });

/** The task's recorded steps in order, with the media that their outputs name: what a later attempt replays. */
export const loadSteps = async (
  db: Db,
  task: { readonly orgId: string; readonly taskId: string },
): Promise<readonly StepRecord[]> => {
  const [found, media] = await db.batch(task.orgId, [
    {
      name: "load_steps",
      text: `SELECT position, kind, name, input_hash AS "inputHash", state, output, child_task_id AS "childTaskId",
          CASE WHEN kind IN ('call', 'approval') THEN input END AS input
        FROM step WHERE org_id = $1 AND task_id = $2 ORDER BY position`,
      values: [task.orgId, task.taskId],
    },
    {
      name: "load_step_media",
      text: "SELECT sha256, base64 FROM step_media WHERE org_id = $1 AND task_id = $2",
      values: [task.orgId, task.taskId],
    },
  ]);
  const contents = media?.rows ?? [];
  const mediaOf = (output: unknown) => {
    const named = contents.length === 0 ? undefined : namesMedia.safeParse(output).data?.media;
    return named && contents.filter(({ sha256 }) => named.some((one) => one.sha256 === sha256));
  };
  return (found?.rows ?? []).map((row) =>
    stepRecord.parse({
      ...row,
      media: mediaOf(row.output),
      input: row.input ?? undefined,
      output: row.output ?? undefined,
      childTaskId: row.childTaskId ?? undefined,
    }),
  );
};
