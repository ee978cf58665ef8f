import { auditOf, forbidden, type Origin, type Principal } from "@shaman/access";
import { recordAudit } from "@shaman/audit";
import type { Db } from "@shaman/db";
import { err, ok, type Result } from "@shaman/kernel";

import { externalAgentNotFound, externalAgentResource } from "./external-agent.ts";

const DELETE = "externalAgent:delete";

/**
 * Forgets an outside agent with its credential and its figures. Needs `externalAgent:delete`. Errors: `forbidden`,
 * `external_agent_not_found`.
 */
export const removeExternalAgent = async (
  deps: { readonly db: Db; readonly origin: Origin },
  principal: Principal,
  idOrName: string,
): Promise<Result<{ readonly id: string; readonly name: string }>> => {
  if (!principal.can(DELETE, "/externalAgents/")) return err(forbidden(DELETE));
  const { orgId } = principal;
  return deps.db.withOrg(orgId, async (tx) => {
    const { rows } = await tx.query<{ id: string; name: string; secretId: string | null }>({
      text: `DELETE FROM external_agent WHERE org_id = $1 AND (id = $2 OR name = $2)
        RETURNING id, name, secret_id AS "secretId"`,
      values: [orgId, idOrName],
    });
    const [removed] = rows;
    if (removed === undefined) return err(externalAgentNotFound(idOrName));
    const { id, name, secretId } = removed;
    if (secretId !== null) {
      await tx.query({ text: "DELETE FROM secret WHERE org_id = $1 AND id = $2", values: [orgId, secretId] });
    }
    const act = { action: DELETE, resource: externalAgentResource(name), details: { id } };
    await recordAudit(tx, auditOf(deps, principal, act));
    return ok({ id, name });
  });
};
