import { setTimeout as delay } from "node:timers/promises";
import type { Db } from "@shaman/db";
import { AppError, err, ok, type Result } from "@shaman/kernel";
import { open, seal, type SecretKeys } from "@shaman/secrets";
import { mcpAuthorizationExpired, mcpAuthorizationUnusable } from "../mcp-server.ts";
import { needsPerson, renewAuthorization, type OauthDeps } from "./oauth-flow.ts";
import { decodeOauthState, encodeOauthState, oauthIdentity, type OauthState } from "./oauth-state.ts";

export type AccessTokenDeps = OauthDeps & {
  readonly db: Pick<Db, "withOrg">;
  readonly secretKeys: SecretKeys;
};

export type AuthorizedServer = {
  readonly orgId: string;
  readonly serverId: string;
  readonly name: string;
  /** Where the token will be sent. */
  readonly origin: string;
};

/** A token that runs out within this time is renewed first. */
const MARGIN_MS = 30_000;
/** Longer than the renewal's own request may take. */
const CLAIM_SECONDS = 45;
const WAIT_MS = 250;
const MAX_WAITS = 200;

type Stored = { readonly state: OauthState; readonly version: number };

const load = async (deps: AccessTokenDeps, server: AuthorizedServer): Promise<Result<Stored>> => {
  const { orgId, serverId, name } = server;
  const { rows } = await deps.db.withOrg(orgId, (tx) =>
    tx.query<{ sealed: string; version: number }>({
      name: "mcp_authorization",
      text: "SELECT sealed, version FROM mcp_authorization WHERE org_id = $1 AND server_id = $2",
      values: [orgId, serverId],
    }),
  );
  const [row] = rows;
  if (row === undefined) return err(mcpAuthorizationUnusable(name, "it has no authorization."));
  const opened = open(deps.secretKeys, { sealed: row.sealed, identity: oauthIdentity(server) });
  if (!opened.ok) return err(mcpAuthorizationUnusable(name, opened.error.message, opened.error));
  const state = decodeOauthState(name, opened.value);
  if (!state.ok) return state;
  // Somebody changed the server's address after the authorization.
  if (state.value.origin !== server.origin) return err(mcpAuthorizationUnusable(name, "it is for another address."));
  return ok({ state: state.value, version: row.version });
};

/** One renewer at a time over all processes. The claim is in the row, so that no transaction waits for another server. */
const claim = async (deps: AccessTokenDeps, server: AuthorizedServer, version: number): Promise<boolean> => {
  const { rowCount } = await deps.db.withOrg(server.orgId, (tx) =>
    tx.query({
      text: `UPDATE mcp_authorization SET renewing_until = now() + make_interval(secs => $4)
        WHERE org_id = $1 AND server_id = $2 AND version = $3 AND (renewing_until IS NULL OR renewing_until < now())`,
      values: [server.orgId, server.serverId, version, CLAIM_SECONDS],
    }),
  );
  return rowCount === 1;
};

const save = async (deps: AccessTokenDeps, server: AuthorizedServer, renewed: Stored): Promise<void> => {
  const identity = oauthIdentity(server);
  const sealed = seal(deps.secretKeys, { plaintext: encodeOauthState(renewed.state), identity });
  await deps.db.withOrg(server.orgId, (tx) =>
    tx.query({
      text: `UPDATE mcp_authorization SET sealed = $4, version = version + 1, renewing_until = NULL, expired_at = NULL,
          updated_at = now()
        WHERE org_id = $1 AND server_id = $2 AND version = $3`,
      values: [server.orgId, server.serverId, renewed.version, sealed],
    }),
  );
};

const giveUpClaim = async (
  deps: AccessTokenDeps,
  server: AuthorizedServer,
  given: { readonly version: number; readonly isExpired: boolean },
): Promise<void> => {
  await deps.db.withOrg(server.orgId, (tx) =>
    tx.query({
      text: `UPDATE mcp_authorization SET renewing_until = NULL, expired_at = CASE WHEN $4::boolean THEN now() ELSE expired_at END
        WHERE org_id = $1 AND server_id = $2 AND version = $3`,
      values: [server.orgId, server.serverId, given.version, given.isExpired],
    }),
  );
};

const renew = async (
  deps: AccessTokenDeps,
  server: AuthorizedServer,
  stored: Stored,
): Promise<Result<string | undefined>> => {
  const renewed = await renewAuthorization(deps, stored.state);
  if (!renewed.ok) {
    const isExpired = needsPerson(renewed.error);
    await giveUpClaim(deps, server, { version: stored.version, isExpired });
    return isExpired ? err(mcpAuthorizationExpired(server.name, renewed.error)) : renewed;
  }
  await save(deps, server, { state: renewed.value, version: stored.version });
  return ok(renewed.value.tokens?.accessToken);
};

/**
 * The access token of a server, renewed when it has nearly run out or is the one that the server just refused. Errors:
 * `mcp_authorization_expired`, `mcp_credential_unusable`, `mcp_oauth_failed`, `mcp_oauth_busy`, and those of outbound.
 */
export const accessToken = async (
  deps: AccessTokenDeps,
  server: AuthorizedServer,
  options: { readonly refused?: string; readonly signal: AbortSignal },
): Promise<Result<string>> => {
  for (let waits = 0; waits < MAX_WAITS; waits += 1) {
    const stored = await load(deps, server);
    if (!stored.ok) return stored;
    const { tokens } = stored.value.state;
    const isFresh = tokens?.expiresAt === undefined || tokens.expiresAt - MARGIN_MS > deps.clock.now();
    if (tokens !== undefined && isFresh && tokens.accessToken !== options.refused) return ok(tokens.accessToken);
    if (await claim(deps, server, stored.value.version)) {
      const token = await renew(deps, server, stored.value);
      if (!token.ok) return token;
      if (token.value !== undefined) return ok(token.value);
    }
    await delay(WAIT_MS, undefined, { signal: options.signal });
  }
  return err(
    new AppError({
      code: "mcp_oauth_busy",
      kind: "operational",
      message: `The access to the MCP server "${server.name}" is being renewed for too long.`,
    }),
  );
};
