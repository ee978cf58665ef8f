import { forbidden, type Principal } from "@shaman/access";
import type { Db } from "@shaman/db";
import { err, ok, Secret, userError, type Result } from "@shaman/kernel";
import { open, type SecretKeys } from "@shaman/secrets";
import type { McpAuth } from "./mcp-server.ts";
import { AUTHORIZE, mcpServerNotFound } from "./mcp-server.ts";
import type { OauthClient } from "./oauth/oauth-flow.ts";
import { decodeOauthState, oauthIdentity, type OauthState } from "./oauth/oauth-state.ts";

/** What is needed to authorize once more as it was done before. */
export type KnownAuthorization = {
  readonly url: string;
  readonly grant: OauthState["grant"];
  /** Absent where Shaman registers itself as a client: it does so anew, because its own address changes. */
  readonly client?: OauthClient;
  readonly scope?: string;
};

type Row = { readonly id: string; readonly url: string; readonly auth: McpAuth; readonly sealed: string | null };

const clientOf = ({ client }: OauthState): OauthClient | undefined => {
  if (client["redirect_uris"] !== undefined) return undefined;
  const { client_id: id, client_secret: secret } = client;
  return { id, ...(secret !== undefined && { secret: new Secret(secret) }) };
};

/**
 * How a registered server was authorized. One whose authorization cannot be read any more is as one that a person
 * authorized. Needs `mcpServer:authorize`. Errors: `forbidden`, `mcp_server_not_found`, `mcp_server_without_oauth`.
 */
export const getMcpAuthorization = async (
  deps: { readonly db: Db; readonly secretKeys: SecretKeys },
  principal: Principal,
  input: { readonly name: string },
): Promise<Result<KnownAuthorization>> => {
  if (!principal.can(AUTHORIZE, "/mcpServers/")) return err(forbidden(AUTHORIZE));
  const { orgId } = principal;
  const { name } = input;
  const { rows } = await deps.db.withOrg(orgId, (tx) =>
    tx.query<Row>({
      text: `SELECT m.id, m.url, m.auth, a.sealed FROM mcp_server m
        LEFT JOIN mcp_authorization a ON a.org_id = m.org_id AND a.server_id = m.id
        WHERE m.org_id = $1 AND m.name = $2`,
      values: [orgId, name],
    }),
  );
  const [row] = rows;
  if (row === undefined) return err(mcpServerNotFound(name));
  if (row.auth !== "oauth") {
    const message = `The MCP server "${name}" was registered without OAuth: remove it and add it with --oauth or --client-credentials.`;
    return err(userError("mcp_server_without_oauth", message));
  }
  const unknown: KnownAuthorization = { url: row.url, grant: "authorization_code" };
  if (row.sealed === null) return ok(unknown);
  const opened = open(deps.secretKeys, { sealed: row.sealed, identity: oauthIdentity({ orgId, serverId: row.id }) });
  const state = opened.ok ? decodeOauthState(name, opened.value) : opened;
  if (!state.ok) return ok(unknown);
  const { grant, scope } = state.value;
  const client = clientOf(state.value);
  return ok({ url: row.url, grant, ...(client && { client }), ...(scope !== undefined && { scope }) });
};
