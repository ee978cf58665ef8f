import { auditOf, forbidden, type Origin, type Principal } from "@shaman/access";
import { recordAudit } from "@shaman/audit";
import type { Db } from "@shaman/db";
import { err, ok, userError, type Result } from "@shaman/kernel";

import { repositoryNotFound } from "../sync/sync-lease.ts";
import { repositoryResource } from "./repository-view.ts";

const DELETE = "repository:delete";

/**
 * Removes a repository with its agents and its credential. Needs `repository:delete`. Errors:
 * `repository_not_found_here`; `repository_in_use` while unfinished runs need it.
 */
export const removeRepository = async (
  deps: { readonly db: Db; readonly origin: Origin },
  principal: Principal,
  idOrName: string,
): Promise<Result<{ readonly repositoryId: string; readonly name: string }>> => {
  if (!principal.can(DELETE, "/repositories/")) return err(forbidden(DELETE));
  const { orgId } = principal;
  return deps.db.withOrg(orgId, async (tx) => {
    const { rows } = await tx.query<{ id: string; name: string; secretId: string | null; runs: number }>({
      text: `SELECT r.id, r.name, r.secret_id AS "secretId", (SELECT count(*) FROM run
          WHERE run.org_id = r.org_id AND run.repository_id = r.id AND run.finished_at IS NULL) AS runs
        FROM repository r WHERE r.org_id = $1 AND (r.id = $2 OR r.name = $2) FOR UPDATE OF r`,
      values: [orgId, idOrName],
    });
    const [repository] = rows;
    if (repository === undefined) return err(repositoryNotFound());
    const { id, name, secretId, runs } = repository;
    if (runs > 0) {
      const message = `${runs} unfinished run${runs === 1 ? "" : "s"} of ${name} would fail: wait for them, or cancel them first.`;
      return err(userError("repository_in_use", message, { runs }));
    }
    await tx.query({ text: "DELETE FROM repository WHERE org_id = $1 AND id = $2", values: [orgId, id] });
    if (secretId !== null) {
      await tx.query({ text: "DELETE FROM secret WHERE org_id = $1 AND id = $2", values: [orgId, secretId] });
    }
    await recordAudit(
      tx,
      auditOf(deps, principal, { action: DELETE, resource: repositoryResource(name), details: { id } }),
    );
    return ok({ repositoryId: id, name });
  });
};
