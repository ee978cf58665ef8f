import { recordAudit } from "@shaman/audit";
import type { Db } from "@shaman/db";
import type { ArtifactView } from "./artifacts.ts";
import { emptyTexts } from "./empty-texts.ts";
import { STORED_METADATA } from "./stored-part.ts";

const BATCH_RUNS = 50;

const DUE = `
SELECT id, last_seq AS "lastSeq" FROM run
WHERE org_id = $1 AND finished_at < now() - $2 * interval '1 day' AND artifacts_expired_at IS NULL
ORDER BY finished_at LIMIT ${BATCH_RUNS}`;

/** Another worker may have them too; each of them is counted by one. */
const TAKE = `
SELECT id, root_task_id AS "taskId", agent FROM run
WHERE org_id = $1 AND id = ANY($2) AND artifacts_expired_at IS NULL
ORDER BY id FOR UPDATE SKIP LOCKED`;

const EMPTY_ARTIFACTS = `
UPDATE artifact SET parts = '[]'
WHERE org_id = $1 AND task_id IN (SELECT t.id FROM task t WHERE t.org_id = $1 AND t.run_id = ANY($2))
  AND parts <> '[{"text": ""}]'
RETURNING run_id AS "runId", bytes`;

/**
 * Deletes what the organization's oldest finished runs, beyond so many days, handed over, and what is recorded of how it
 * came about: their artifacts' rows keep names and nothing else, so do events and steps, their objects are marked for
 * `collectObjects`. A small batch; gives how many runs there were, so that the caller can come back while there are more.
 */
export const expireArtifacts = async (
  deps: { readonly db: Db },
  input: { readonly orgId: string; readonly days: number },
): Promise<number> => {
  const { orgId, days } = input;
  type Due = { id: string; lastSeq: number };
  const { rows: due } = await deps.db.withOrg(orgId, (tx) => tx.query<Due>({ text: DUE, values: [orgId, days] }));
  if (due.length === 0) return 0;
  // Before they are marked: what is broken off here is done again.
  await emptyTexts(deps, { orgId, runs: due });
  await markExpired(deps, { ...input, runIds: due.map(({ id }) => id) });
  return due.length;
};

/** Artifacts, objects and audit rows, in one transaction. */
const markExpired = (
  deps: { readonly db: Db },
  input: { readonly orgId: string; readonly days: number; readonly runIds: readonly string[] },
): Promise<void> =>
  deps.db.withOrg(input.orgId, async (tx) => {
    const { orgId, days } = input;
    type Taken = { id: string; taskId: string; agent: string };
    const { rows: runs } = await tx.query<Taken>({ text: TAKE, values: [orgId, input.runIds] });
    const ids = runs.map(({ id }) => id);
    const emptied = await tx.query<{ runId: string; bytes: number }>({ text: EMPTY_ARTIFACTS, values: [orgId, ids] });
    await tx.query({
      text: "UPDATE stored_object SET state = 'deleting' WHERE org_id = $1 AND run_id = ANY($2)",
      values: [orgId, ids],
    });
    await tx.query({
      text: "UPDATE run SET artifacts_expired_at = now() WHERE org_id = $1 AND id = ANY($2)",
      values: [orgId, ids],
    });
    const byRun = Map.groupBy(emptied.rows, ({ runId }) => runId);
    for (const { id, taskId, agent } of runs) {
      const artifacts = byRun.get(id) ?? [];
      if (artifacts.length === 0) continue;
      await recordAudit(tx, {
        orgId,
        actor: "system:worker",
        action: "artifact:expire",
        resource: taskId,
        result: "ok",
        agent,
        runId: id,
        taskId,
        server: "worker",
        details: {
          days,
          artifacts: artifacts.length,
          bytes: artifacts.reduce((sum, one) => sum + one.bytes, 0),
        },
      });
    }
  });

/** What a task shows of an artifact whose content was deleted at that time. */
export const expiredArtifact =
  (at: Date) =>
  (artifact: ArtifactView): ArtifactView => ({
    ...artifact,
    parts: [
      {
        text: "The content of this artifact was deleted because of its age.",
        metadata: { [STORED_METADATA]: { expired: true, expiredAt: at.toISOString() } },
      },
    ],
  });
