import { auditOf, forbidden, type Origin, type Principal } from "@shaman/access";
import { recordAudit } from "@shaman/audit";
import { isUniqueViolation, type Db, type Tx } from "@shaman/db";
import { err, invalidInput, newId, ok, Secret, userError, type Result } from "@shaman/kernel";
import type { Outbound } from "@shaman/outbound";
import { seal, secretIdentity, type SecretKeys } from "@shaman/secrets";
import { z } from "zod";
import { encodeHeaders } from "./headers.ts";
import { MCP_TRANSPORTS, mcpServerName, mcpServerResource } from "./mcp-server.ts";
import { encodeOauthState, oauthIdentity, oauthState } from "./oauth/oauth-state.ts";

export type RegisterMcpServerDeps = {
  readonly db: Db;
  readonly origin: Origin;
  readonly secretKeys: SecretKeys;
  readonly checkUrl: Outbound["checkUrl"];
};

export const registerMcpServerInput = z.strictObject({
  name: mcpServerName,
  url: z.string().min(1).max(2_000),
  transport: z.enum(MCP_TRANSPORTS).default("streamable-http"),
  /** Calls of all runs may share one session: the server keeps nothing between them. */
  stateless: z.boolean().default(false),
  auth: z
    .discriminatedUnion("kind", [
      z.strictObject({ kind: z.literal("none") }),
      z.strictObject({ kind: z.literal("headers"), headers: z.record(z.string(), z.instanceof(Secret)) }),
      /** What `authorizeClient` or a finished authorization gave. */
      z.strictObject({ kind: z.literal("oauth"), state: oauthState }),
    ])
    .default({ kind: "none" }),
});
export type RegisterMcpServerInput = z.input<typeof registerMcpServerInput>;
type Parsed = z.infer<typeof registerMcpServerInput>;

const CREATE = "mcpServer:create";

const headersOf = (auth: Parsed["auth"]): Result<Secret | undefined> =>
  auth.kind === "headers" ? encodeHeaders(auth.headers) : ok(undefined);

type Plan = Omit<Parsed, "auth"> & {
  readonly orgId: string;
  readonly id: string;
  readonly origin: string;
  readonly auth: Parsed["auth"];
  readonly headers: Secret | undefined;
};

const insert = async (tx: Tx, keys: SecretKeys, plan: Plan): Promise<void> => {
  const { orgId, id, auth } = plan;
  const secretId = plan.headers === undefined ? null : newId("secret");
  if (plan.headers !== undefined && secretId !== null) {
    const sealed = seal(keys, { plaintext: plan.headers, identity: secretIdentity({ orgId, secretId }) });
    await tx.query({
      text: "INSERT INTO secret (org_id, id, name, origin, sealed) VALUES ($1, $2, $3, $4, $5)",
      values: [orgId, secretId, `MCP server ${plan.name}`, plan.origin, sealed],
    });
  }
  await tx.query({
    text: `INSERT INTO mcp_server (org_id, id, name, url, transport, stateless, auth, secret_id)
      VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
    values: [orgId, id, plan.name, plan.url, plan.transport, plan.stateless, auth.kind, secretId],
  });
  if (auth.kind !== "oauth") return;
  const identity = oauthIdentity({ orgId, serverId: id });
  await tx.query({
    text: "INSERT INTO mcp_authorization (org_id, server_id, sealed) VALUES ($1, $2, $3)",
    values: [orgId, id, seal(keys, { plaintext: encodeOauthState(auth.state), identity })],
  });
};

/**
 * Registers an MCP server; its credential is sealed and bound to the origin of `url`. Needs `mcpServer:create`. Errors:
 * `forbidden`, `invalid_input`, `outbound_refused`, `outbound_failed`, `mcp_server_exists`.
 */
export const registerMcpServer = async (
  deps: RegisterMcpServerDeps,
  principal: Principal,
  input: RegisterMcpServerInput,
): Promise<Result<{ readonly serverId: string }>> => {
  if (!principal.can(CREATE, "/mcpServers/")) return err(forbidden(CREATE));
  const parsed = registerMcpServerInput.safeParse(input);
  if (!parsed.success) return err(invalidInput(parsed.error));
  const { name, transport, stateless, auth } = parsed.data;
  const checked = await deps.checkUrl(parsed.data.url);
  if (!checked.ok) return checked;
  const { href: url, origin } = checked.value.url;
  const headers = headersOf(auth);
  if (!headers.ok) return headers;
  if (auth.kind === "oauth" && auth.state.origin !== origin) {
    return err(userError("invalid_input", "The authorization is for another address."));
  }
  const { orgId } = principal;
  const id = newId("mcp");
  try {
    await deps.db.withOrg(orgId, async (tx) => {
      await insert(tx, deps.secretKeys, { ...parsed.data, orgId, id, url, origin, headers: headers.value });
      const details = { id, url, transport, stateless, auth: auth.kind };
      await recordAudit(tx, auditOf(deps, principal, { action: CREATE, resource: mcpServerResource(name), details }));
    });
  } catch (thrown) {
    if (!isUniqueViolation(thrown, "mcp_server_org_id_name_key")) throw thrown;
    return err(userError("mcp_server_exists", `There is an MCP server ${name} already: choose another name.`));
  }
  return ok({ serverId: id });
};
