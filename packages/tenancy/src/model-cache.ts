import { auditOf, forbidden, type Origin, type Principal } from "@shaman/access";
import { recordAudit } from "@shaman/audit";
import type { Db } from "@shaman/db";
import { err, ok, type Result } from "@shaman/kernel";

const CLEAR = "modelCache:clear";
const BATCH_ROWS = 1_000;
const MAX_BATCHES = 100;

/** Forgets every answer that the organization keeps for reuse. Needs `modelCache:clear`. Errors: `forbidden`. */
export const clearModelCache = async (
  deps: { readonly db: Db; readonly origin: Origin },
  principal: Principal,
): Promise<Result<{ readonly deleted: number }>> => {
  if (!principal.can(CLEAR, "/models/")) return err(forbidden(CLEAR));
  const { orgId } = principal;
  const deleted = await deps.db.withOrg(orgId, async (tx) => {
    const { rowCount } = await tx.query({ text: "DELETE FROM model_response WHERE org_id = $1", values: [orgId] });
    const act = { action: CLEAR, resource: "/models/", details: { deleted: rowCount } };
    await recordAudit(tx, auditOf(deps, principal, act));
    return rowCount;
  });
  return ok({ deleted });
};

/** Deletes answers that have expired, of all organizations: a time to live is also a promise to forget. Gives their number. */
export const deleteExpiredModelResponses = async (
  deps: { readonly db: Pick<Db, "unscoped"> },
  signal: AbortSignal,
): Promise<number> => {
  let deleted = 0;
  for (let batch = 0; batch < MAX_BATCHES && !signal.aborted; batch += 1) {
    const { rowCount } = await deps.db.unscoped((tx) =>
      tx.query({
        text: `DELETE FROM model_response WHERE (org_id, request_hash) IN (SELECT org_id, request_hash FROM model_response
          WHERE expires_at <= now() ORDER BY expires_at LIMIT $1)`,
        values: [BATCH_ROWS],
      }),
    );
    deleted += rowCount;
    if (rowCount < BATCH_ROWS) break;
  }
  return deleted;
};
