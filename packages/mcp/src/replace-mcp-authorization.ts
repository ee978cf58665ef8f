import { auditOf, forbidden, type Origin, type Principal } from "@shaman/access";
import { recordAudit } from "@shaman/audit";
import type { Db } from "@shaman/db";
import { err, ok, userError, type Result } from "@shaman/kernel";
import { seal, type SecretKeys } from "@shaman/secrets";
import { AUTHORIZE, mcpServerNotFound, mcpServerResource } from "./mcp-server.ts";
import { encodeOauthState, oauthIdentity, type OauthState } from "./oauth/oauth-state.ts";

/**
 * Gives a registered server a new authorization in the place of one that has expired or was revoked. What is approved of its
 * tools stays. Needs `mcpServer:authorize`. Errors: `forbidden`, `mcp_server_not_found`, `invalid_input` when the
 * authorization is for another address; then nothing changes.
 */
export const replaceMcpAuthorization = async (
  deps: { readonly db: Db; readonly origin: Origin; readonly secretKeys: SecretKeys },
  principal: Principal,
  input: { readonly name: string; readonly state: OauthState },
): Promise<Result<{ readonly serverId: string }>> => {
  if (!principal.can(AUTHORIZE, "/mcpServers/")) return err(forbidden(AUTHORIZE));
  const { orgId } = principal;
  const { name, state } = input;
  return deps.db.withOrg(orgId, async (tx) => {
    const { rows } = await tx.query<{ id: string; url: string }>({
      text: "SELECT id, url FROM mcp_server WHERE org_id = $1 AND name = $2 AND auth = 'oauth' FOR UPDATE",
      values: [orgId, name],
    });
    const [server] = rows;
    if (server === undefined) return err(mcpServerNotFound(name));
    const { id, url } = server;
    if (state.origin !== new URL(url).origin) {
      return err(userError("invalid_input", "The authorization is for another address."));
    }
    const sealed = seal(deps.secretKeys, {
      plaintext: encodeOauthState(state),
      identity: oauthIdentity({ orgId, serverId: id }),
    });
    // Whoever renews the old one at this moment writes over the version it read, and so nothing.
    await tx.query({
      text: `INSERT INTO mcp_authorization (org_id, server_id, sealed) VALUES ($1, $2, $3)
        ON CONFLICT (org_id, server_id) DO UPDATE SET sealed = excluded.sealed, version = mcp_authorization.version + 1,
          renewing_until = NULL, expired_at = NULL, updated_at = now()`,
      values: [orgId, id, sealed],
    });
    // Sessions that were opened with the old one are not used by later runs.
    await tx.query({
      text: "UPDATE mcp_server SET updated_at = now() WHERE org_id = $1 AND id = $2",
      values: [orgId, id],
    });
    const act = { action: AUTHORIZE, resource: mcpServerResource(name), details: { id, grant: state.grant } };
    await recordAudit(tx, auditOf(deps, principal, act));
    return ok({ serverId: id });
  });
};
