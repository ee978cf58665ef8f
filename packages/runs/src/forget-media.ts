import type { Db } from "@shaman/db";

const BATCH = 200;

const FORGET = `
DELETE FROM step_media WHERE (org_id, task_id, sha256) IN (
  SELECT m.org_id, m.task_id, m.sha256 FROM step_media m JOIN run r ON r.org_id = m.org_id AND r.id = m.run_id
  WHERE r.finished_at IS NOT NULL LIMIT ${BATCH})`;

/** Deletes a batch of the media of runs that are over, of all organizations: nobody replays their steps. Gives their number. */
export const forgetStepMedia = async (deps: { readonly db: Pick<Db, "unscoped"> }): Promise<number> => {
  const { rowCount } = await deps.db.unscoped((tx) => tx.query({ text: FORGET }));
  return rowCount;
};
