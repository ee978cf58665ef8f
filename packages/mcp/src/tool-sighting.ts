import { createHash } from "node:crypto";
import { recordAudit, type AuditEntry } from "@shaman/audit";
import { toJsonb, type Db, type Tx } from "@shaman/db";
import type { Json, JsonObject } from "@shaman/kernel";
import { APPROVE, mcpServerResource } from "./mcp-server.ts";

/** Where tools come from. */
export type McpSource =
  | { readonly kind: "registered"; readonly id: string; readonly label: string }
  | { readonly kind: "inline" | "catalogue"; readonly id: string; readonly label: string };

/** A tool as its server describes it now. */
export type SeenTool = { readonly name: string; readonly definition: JsonObject };

/** `approved` may be used; `changed` differs from what was approved; `new` was never approved. */
export type ToolStanding = "approved" | "changed" | "new";

const sorted = (value: Json): Json => {
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) return value.map(sorted);
  const entries = Object.entries(value).toSorted(([one], [other]) => (one < other ? -1 : 1));
  return Object.fromEntries(entries.map(([key, inner]) => [key, sorted(inner)]));
};

/** One hash for all that a model or a person is told of a tool, whatever the order of its keys. */
export const hashTool = (tool: SeenTool): string =>
  createHash("sha256")
    .update(JSON.stringify(sorted({ name: tool.name, definition: tool.definition })))
    .digest("hex");

type Known = { readonly name: string; readonly seen_hash: string; readonly approved_hash: string | null };

const readKnown = async (tx: Tx, orgId: string, source: McpSource): Promise<Map<string, Known>> => {
  const { rows } = await tx.query<Known>({
    name: "mcp_tools_of_source",
    text: "SELECT name, seen_hash, approved_hash FROM mcp_tool WHERE org_id = $1 AND source_id = $2",
    values: [orgId, source.id],
  });
  return new Map(rows.map((row) => [row.name, row]));
};

/** True when nobody of this organization ever saw the source before. */
const insertSource = async (tx: Tx, orgId: string, source: McpSource): Promise<boolean> => {
  const { rowCount } = await tx.query({
    text: `INSERT INTO mcp_source (org_id, id, kind, server_id, label) VALUES ($1, $2, $3, $4, $5)
      ON CONFLICT (org_id, id) DO NOTHING`,
    values: [orgId, source.id, source.kind, source.kind === "registered" ? source.id : null, source.label],
  });
  return rowCount === 1;
};

/** Who looks, and for which run where it is one. */
export type SeenBy = Pick<AuditEntry, "actor" | "server" | "protocol" | "runId">;

type Sighting = {
  readonly orgId: string;
  readonly source: McpSource;
  readonly tools: readonly SeenTool[];
  /** What is approved by a first sight is approved by them. */
  readonly by: SeenBy;
};

type Row = { readonly name: string; readonly hash: string; readonly definition: JsonObject };

const write = async (tx: Tx, sighting: Sighting, seen: { rows: readonly Row[]; first: boolean }): Promise<void> => {
  const { orgId, source, by } = sighting;
  await tx.query({
    text: `INSERT INTO mcp_tool (org_id, source_id, name, definition, seen_hash, approved_hash, approved_at, approved_by)
      SELECT $1, $2, t.name, t.definition, t.hash, CASE WHEN $4 THEN t.hash END, CASE WHEN $4 THEN now() END,
        CASE WHEN $4 THEN $5::text END
      FROM jsonb_to_recordset($3::jsonb) AS t (name text, hash text, definition jsonb)
      ON CONFLICT (org_id, source_id, name) DO UPDATE
        SET definition = excluded.definition, seen_hash = excluded.seen_hash, seen_at = now()`,
    values: [orgId, source.id, toJsonb(seen.rows), seen.first, by.runId ?? by.actor],
  });
};

const auditFirstSight = async (tx: Tx, sighting: Sighting, rows: readonly Row[]): Promise<void> => {
  const { orgId, source, by } = sighting;
  const tools = rows.map(({ name, hash }) => ({ name, hash }));
  const details = { sourceId: source.id, firstSight: true, tools };
  const resource = mcpServerResource(source.label);
  await recordAudit(tx, { orgId, ...by, action: APPROVE, resource, result: "ok", details });
};

/**
 * Notes what a source offers now, and says of each tool whether it may be used. The first sight of a source approves what
 * is there, with its audit row; later, what is new or differs waits for `approveMcpTools`.
 */
export const recordSighting = async (
  deps: { readonly db: Pick<Db, "withOrg"> },
  sighting: Sighting,
): Promise<ReadonlyMap<string, ToolStanding>> => {
  const { orgId, source, tools } = sighting;
  const known = await deps.db.withOrg(orgId, async (tx) => {
    const before = await readKnown(tx, orgId, source);
    const isAsKnown = before.size > 0 && tools.every((tool) => before.get(tool.name)?.seen_hash === hashTool(tool));
    if (isAsKnown) return before;
    const first = await insertSource(tx, orgId, source);
    const rows = tools.map((tool) => ({ name: tool.name, hash: hashTool(tool), definition: tool.definition }));
    if (rows.length > 0) await write(tx, sighting, { rows, first });
    if (first) await auditFirstSight(tx, sighting, rows);
    return readKnown(tx, orgId, source);
  });
  return new Map(
    tools.map((tool) => {
      const approved = known.get(tool.name)?.approved_hash ?? null;
      if (approved === null) return [tool.name, "new"];
      return [tool.name, approved === hashTool(tool) ? "approved" : "changed"];
    }),
  );
};
