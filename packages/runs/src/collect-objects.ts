import type { Db } from "@shaman/db";
import type { ObjectStore } from "@shaman/storage";

const BATCH = 100;
/** A run that ended that long ago writes nothing any more. */
const SETTLED_MINUTES = 60;

// Who may still be writing decides: a run that goes on, or one that a late worker has not noticed to be over.
const OPEN = `
SELECT o.org_id AS "orgId", o.id, o.key, o.state FROM stored_object o
LEFT JOIN run r ON r.org_id = o.org_id AND r.id = o.run_id
WHERE o.state <> 'kept' AND (o.state = 'deleting'
  OR o.created_at < now() - $1 * interval '1 minute' AND (r.id IS NULL OR r.finished_at < now() - $1 * interval '1 minute'))
ORDER BY o.created_at LIMIT ${BATCH}`;

const DECIDE = `
UPDATE stored_object o SET state = CASE WHEN EXISTS (
    SELECT 1 FROM artifact a WHERE a.org_id = o.org_id AND a.task_id = o.task_id AND a.id = o.artifact_id
      AND a.parts @> jsonb_build_array(jsonb_build_object('url', 'urn:shaman:object:' || o.id)))
  THEN 'kept' ELSE 'deleting' END
WHERE o.org_id = $1 AND o.id = ANY($2) AND o.state = 'pending'
RETURNING o.id, o.key, o.state`;

type OpenObject = { readonly orgId: string; readonly id: string; readonly key: string; readonly state: string };

/**
 * Deletes the objects that expired, and those that no artifact came to use because their worker was stopped in between. A
 * row goes only after its object is gone, so that nothing is forgotten when the store is away. Gives how many objects
 * were looked at.
 */
export const collectObjects = async (
  deps: { readonly db: Db; readonly store: ObjectStore },
  options: { readonly signal: AbortSignal; readonly settledMinutes?: number },
): Promise<number> => {
  const { rows } = await deps.db.unscoped((tx) =>
    tx.query<OpenObject>({ text: OPEN, values: [options.settledMinutes ?? SETTLED_MINUTES] }),
  );
  for (const [orgId, objects] of Map.groupBy(rows, (row) => row.orgId)) {
    const undecided = objects.filter(({ state }) => state === "pending").map(({ id }) => id);
    const decided = await deps.db.withOrg(orgId, (tx) =>
      tx.query<Omit<OpenObject, "orgId">>({ text: DECIDE, values: [orgId, undecided] }),
    );
    const unused = [...objects, ...decided.rows].filter(({ state }) => state === "deleting");
    for (const { id, key } of unused) {
      options.signal.throwIfAborted();
      await deps.store.delete(key, { signal: options.signal });
      await deps.db.withOrg(orgId, (tx) =>
        tx.query({
          text: "DELETE FROM stored_object WHERE org_id = $1 AND id = $2 AND state = 'deleting'",
          values: [orgId, id],
        }),
      );
    }
  }
  return rows.length;
};
