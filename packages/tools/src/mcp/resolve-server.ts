import { createHash } from "node:crypto";
import type { McpServerUse } from "@shaman/agents";
import type { Db } from "@shaman/db";
import { err, ok, systemClock, type Json, type Result } from "@shaman/kernel";
import { accessToken, findMcpServer, type McpSource, type UsableMcpServer } from "@shaman/mcp";
import type { Outbound } from "@shaman/outbound";
import type { SecretKeys } from "@shaman/secrets";
import type { HttpTarget, McpTarget } from "./mcp-target.ts";

export type ResolveServerDeps = {
  readonly db: Pick<Db, "withOrg">;
  readonly secretKeys: SecretKeys;
  readonly outbound: Pick<Outbound, "fetch">;
};

/** Whose run asks, and from which repository its agent comes. */
export type ServerUser = {
  readonly orgId: string;
  readonly runId: string;
  readonly repositoryId: string;
  /** What people call the repository. */
  readonly repositoryName: string;
};

/** A server that an agent file names, ready to be connected to. */
export type ResolvedServer = {
  readonly source: McpSource;
  readonly target: McpTarget;
  readonly credentialId: string;
  readonly stateless: boolean;
};

const shortHash = (parts: readonly Json[]): string =>
  createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 32);

/** A registered server with the credential that is for its origin. */
const registeredServer = (
  deps: ResolveServerDeps,
  orgId: string,
  server: UsableMcpServer,
): ResolvedServer & { readonly target: HttpTarget } => {
  const { origin } = new URL(server.url);
  const tokens = { db: deps.db, secretKeys: deps.secretKeys, fetch: deps.outbound.fetch, clock: systemClock };
  const authorized = { orgId, serverId: server.id, name: server.name, origin };
  return {
    source: { kind: "registered", id: server.id, label: server.name },
    credentialId: server.credentialId,
    stateless: server.stateless,
    target: {
      kind: server.transport,
      url: server.url,
      headers: server.headers,
      ...(server.auth === "oauth" && {
        accessToken: (options: Parameters<typeof accessToken>[2]) => accessToken(tokens, authorized, options),
      }),
    },
  };
};

/**
 * What an agent file means by one entry of `mcpServers`. A server named by address gets no credential, and what was
 * approved of it counts for its repository only. Errors: `mcp_server_not_found`, `mcp_credential_unusable`.
 */
export const resolveServer = async (
  deps: ResolveServerDeps,
  user: ServerUser,
  entry: { readonly name: string; readonly use: McpServerUse },
): Promise<Result<ResolvedServer>> => {
  const { name, use } = entry;
  const { orgId } = user;
  switch (use.kind) {
    case "registered": {
      const server = await findMcpServer(deps, { orgId, name });
      return server.ok ? ok(registeredServer(deps, orgId, server.value)) : err(server.error);
    }
    case "inline": {
      const { url, transport } = use;
      const id = `inline_${shortHash([user.repositoryId, transport, url])}`;
      return ok({
        source: { kind: "inline", id, label: `${url} of ${user.repositoryName}` },
        target: { kind: transport, url, headers: {} },
        credentialId: "none",
        stateless: false,
      });
    }
    case "catalogue": {
      const { catalogue, parameters } = use;
      const id = `catalogue_${shortHash([catalogue, parameters])}`;
      return ok({
        source: { kind: "catalogue", id, label: `catalogue ${catalogue}` },
        target: { kind: "catalogue", orgId, runId: user.runId, catalogue, parameters },
        credentialId: "none",
        stateless: false,
      });
    }
  }
};
