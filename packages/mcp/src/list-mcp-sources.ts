import { forbidden, type Principal } from "@shaman/access";
import type { Db } from "@shaman/db";
import { err, ok, userError, type Json, type Result } from "@shaman/kernel";
import { z } from "zod";
import type { McpAuth, McpTransport } from "./mcp-server.ts";
import { mcpServerNotFound } from "./mcp-server.ts";
import type { ToolStanding } from "./tool-sighting.ts";

/** A source of tools, registered or met in an agent file; the last five fields are of registered servers. */
export type McpSourceView = {
  readonly id: string;
  readonly kind: "registered" | "inline" | "catalogue";
  readonly label: string;
  readonly tools: number;
  /** Tools that are off until somebody approves them. */
  readonly waiting: number;
  readonly firstSeenAt: Date | null;
  readonly url: string | null;
  readonly transport: McpTransport | null;
  readonly stateless: boolean | null;
  readonly auth: McpAuth | null;
  /** When its authorization server was seen to renew the authorization no more: somebody has to authorize again. */
  readonly authorizationExpiredAt: Date | null;
};

export type McpToolView = {
  readonly name: string;
  readonly standing: ToolStanding;
  readonly hash: string;
  readonly definition: Json;
  readonly seenAt: Date;
  readonly approvedAt: Date | null;
  readonly approvedBy: string | null;
};

export type McpSourcePage = { readonly sources: readonly McpSourceView[]; readonly endCursor: string | null };

const READ = "mcpServer:read";
const MAX_PAGE = 200;
const MAX_TOOLS = 1_000;

/** Registered servers that nobody looked at yet have no source: both are one list. */
const SOURCES = `SELECT id, kind, label, first_seen_at, NULL AS url, NULL AS transport, NULL::boolean AS stateless, NULL AS auth,
    NULL::timestamptz AS expired_at
    FROM mcp_source WHERE org_id = $1 AND server_id IS NULL
  UNION ALL
  SELECT m.id, 'registered', m.name, s.first_seen_at, m.url, m.transport, m.stateless, m.auth,
    a.expired_at
    FROM mcp_server m LEFT JOIN mcp_source s ON s.org_id = m.org_id AND s.id = m.id
      LEFT JOIN mcp_authorization a ON a.org_id = m.org_id AND a.server_id = m.id WHERE m.org_id = $1`;

const COLUMNS = `a.id, a.kind, a.label, a.first_seen_at AS "firstSeenAt", a.url, a.transport, a.stateless, a.auth,
  a.expired_at AS "authorizationExpiredAt",
  (SELECT count(*) FROM mcp_tool t WHERE t.org_id = $1 AND t.source_id = a.id) AS tools,
  (SELECT count(*) FROM mcp_tool t WHERE t.org_id = $1 AND t.source_id = a.id
    AND t.approved_hash IS DISTINCT FROM t.seen_hash) AS waiting`;

const cursorSchema = z.tuple([z.string(), z.string()]);

const encodeCursor = (view: McpSourceView): string =>
  Buffer.from(JSON.stringify([view.label, view.id])).toString("base64url");

const decodeCursor = (cursor: string): readonly [string, string] | undefined => {
  try {
    return cursorSchema.parse(JSON.parse(Buffer.from(cursor, "base64url").toString()));
  } catch {
    return undefined;
  }
};

/** The organization's sources of tools by label. Needs `mcpServer:read`. Error: `invalid_input` for a cursor that is none. */
export const listMcpSources = async (
  deps: { readonly db: Db },
  principal: Principal,
  input: { readonly first?: number; readonly after?: string } = {},
): Promise<Result<McpSourcePage>> => {
  if (!principal.can(READ, "/mcpServers/")) return err(forbidden(READ));
  const first = Math.min(Math.max(1, input.first ?? MAX_PAGE), MAX_PAGE);
  const after = input.after === undefined ? (["", ""] as const) : decodeCursor(input.after);
  if (after === undefined) return err(userError("invalid_input", "The cursor is not one of this list."));
  const { rows } = await deps.db.withOrg(principal.orgId, (tx) =>
    tx.query<McpSourceView>({
      text: `SELECT ${COLUMNS} FROM (${SOURCES}) a WHERE (a.label, a.id) > ($2, $3) ORDER BY a.label, a.id LIMIT $4`,
      values: [principal.orgId, ...after, first + 1],
    }),
  );
  const sources = rows.slice(0, first);
  const last = sources.at(-1);
  return ok({ sources, endCursor: rows.length > first && last !== undefined ? encodeCursor(last) : null });
};

/** One source by id or label, with its tools by name. Needs `mcpServer:read`. Error: `mcp_server_not_found`. */
export const getMcpSource = async (
  deps: { readonly db: Db },
  principal: Principal,
  idOrLabel: string,
): Promise<Result<McpSourceView & { readonly toolList: readonly McpToolView[] }>> => {
  if (!principal.can(READ, "/mcpServers/")) return err(forbidden(READ));
  const { orgId } = principal;
  return deps.db.withOrg(orgId, async (tx) => {
    const { rows } = await tx.query<McpSourceView>({
      text: `SELECT ${COLUMNS} FROM (${SOURCES}) a WHERE a.id = $2 OR a.label = $2
        ORDER BY (a.kind = 'registered') DESC, a.id LIMIT 1`,
      values: [orgId, idOrLabel],
    });
    const [source] = rows;
    if (source === undefined) return err(mcpServerNotFound(idOrLabel));
    const tools = await tx.query<McpToolView>({
      text: `SELECT name, seen_hash AS hash, definition, seen_at AS "seenAt", approved_at AS "approvedAt",
          approved_by AS "approvedBy", CASE WHEN approved_hash IS NULL THEN 'new' WHEN approved_hash = seen_hash THEN 'approved'
            ELSE 'changed' END AS standing
        FROM mcp_tool WHERE org_id = $1 AND source_id = $2 ORDER BY name LIMIT ${MAX_TOOLS}`,
      values: [orgId, source.id],
    });
    return ok({ ...source, toolList: tools.rows });
  });
};
