import { auditOf, forbidden, type Origin, type Principal } from "@shaman/access";
import { recordAudit } from "@shaman/audit";
import type { Db } from "@shaman/db";
import { err, ok, type Result } from "@shaman/kernel";
import { mcpServerNotFound, mcpServerResource } from "./mcp-server.ts";

const DELETE = "mcpServer:delete";

/** Removes a server with its credential and what was approved of it. Needs `mcpServer:delete`. Error: `mcp_server_not_found`. */
export const removeMcpServer = async (
  deps: { readonly db: Db; readonly origin: Origin },
  principal: Principal,
  input: { readonly name: string },
): Promise<Result<{ readonly serverId: string; readonly name: string }>> => {
  if (!principal.can(DELETE, "/mcpServers/")) return err(forbidden(DELETE));
  const { orgId } = principal;
  return deps.db.withOrg(orgId, async (tx) => {
    const { rows } = await tx.query<{ id: string; name: string; secretId: string | null }>({
      text: `DELETE FROM mcp_server WHERE org_id = $1 AND (name = $2 OR id = $2)
        RETURNING id, name, secret_id AS "secretId"`,
      values: [orgId, input.name],
    });
    const [server] = rows;
    if (server === undefined) return err(mcpServerNotFound(input.name));
    const { id, name, secretId } = server;
    if (secretId !== null) {
      await tx.query({ text: "DELETE FROM secret WHERE org_id = $1 AND id = $2", values: [orgId, secretId] });
    }
    await recordAudit(
      tx,
      auditOf(deps, principal, { action: DELETE, resource: mcpServerResource(name), details: { id } }),
    );
    return ok({ serverId: id, name });
  });
};
