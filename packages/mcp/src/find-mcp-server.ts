import type { Db } from "@shaman/db";
import { err, ok, type Result } from "@shaman/kernel";
import { open, secretIdentity, type SecretKeys } from "@shaman/secrets";
import { z } from "zod";
import { decodeHeaders } from "./headers.ts";
import { MCP_AUTHS, MCP_TRANSPORTS, mcpCredentialUnusable, mcpServerNotFound } from "./mcp-server.ts";

const serverRow = z.object({
  id: z.string(),
  name: z.string(),
  url: z.string(),
  transport: z.enum(MCP_TRANSPORTS),
  stateless: z.boolean(),
  auth: z.enum(MCP_AUTHS),
  secretId: z.string().nullable(),
  origin: z.string().nullable(),
  sealed: z.string().nullable(),
  updatedAt: z.date(),
});

/** A registered server as a connection needs it. Its headers are in memory only, and for the origin of `url` only. */
export type UsableMcpServer = Pick<
  z.infer<typeof serverRow>,
  "id" | "name" | "url" | "transport" | "stateless" | "auth"
> & {
  readonly headers: Readonly<Record<string, string>>;
  /** Changes with the credential; says nothing about it. */
  readonly credentialId: string;
};

/** Finds a registered server by name and opens its headers. Errors: `mcp_server_not_found`, `mcp_credential_unusable`. */
export const findMcpServer = async (
  deps: { readonly db: Pick<Db, "withOrg">; readonly secretKeys: SecretKeys },
  at: { readonly orgId: string; readonly name: string },
): Promise<Result<UsableMcpServer>> => {
  const { orgId, name } = at;
  const { rows } = await deps.db.withOrg(orgId, (tx) =>
    tx.query({
      name: "mcp_server_by_name",
      text: `SELECT m.id, m.name, m.url, m.transport, m.stateless, m.auth, m.secret_id AS "secretId", s.origin, s.sealed,
          m.updated_at AS "updatedAt"
        FROM mcp_server m LEFT JOIN secret s ON s.org_id = m.org_id AND s.id = m.secret_id
        WHERE m.org_id = $1 AND m.name = $2`,
      values: [orgId, name],
    }),
  );
  if (rows[0] === undefined) return err(mcpServerNotFound(name));
  const { secretId, origin, sealed, updatedAt, ...server } = serverRow.parse(rows[0]);
  const credentialId = `${secretId ?? server.auth}@${updatedAt.getTime()}`;
  if (server.auth !== "headers") return ok({ ...server, headers: {}, credentialId });
  if (secretId === null || sealed === null || origin !== URL.parse(server.url)?.origin) {
    return err(mcpCredentialUnusable(name, "it was stored for another address."));
  }
  const opened = open(deps.secretKeys, { sealed, identity: secretIdentity({ orgId, secretId }) });
  if (!opened.ok) return err(mcpCredentialUnusable(name, opened.error.message, opened.error));
  return ok({ ...server, headers: decodeHeaders(opened.value), credentialId });
};
