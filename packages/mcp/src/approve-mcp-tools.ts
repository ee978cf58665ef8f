import { auditOf, forbidden, type Origin, type Principal } from "@shaman/access";
import { recordAudit } from "@shaman/audit";
import type { Db } from "@shaman/db";
import { err, ok, userError, type Result } from "@shaman/kernel";
import { APPROVE, mcpServerResource } from "./mcp-server.ts";

export type ApproveMcpToolsInput = {
  readonly sourceId: string;
  /** Each with the hash of the description that was read, so that nothing unseen is approved. */
  readonly tools: readonly { readonly name: string; readonly hash: string }[];
};

/**
 * Lets agents use tools as they are described now. Needs `mcpServer:approve`. Errors: `forbidden`, `mcp_tool_changed`
 * when one of them is unknown or changed again since it was read; then none is approved.
 */
export const approveMcpTools = async (
  deps: { readonly db: Db; readonly origin: Origin },
  principal: Principal,
  input: ApproveMcpToolsInput,
): Promise<Result<{ readonly approved: readonly string[] }>> => {
  if (!principal.can(APPROVE, "/mcpServers/")) return err(forbidden(APPROVE));
  const { orgId } = principal;
  const { sourceId } = input;
  return deps.db.withOrg(orgId, async (tx) => {
    const names = input.tools.map(({ name }) => name);
    const { rows } = await tx.query<{ name: string; seen_hash: string; label: string }>({
      text: `SELECT t.name, t.seen_hash, s.label FROM mcp_tool t
        JOIN mcp_source s ON s.org_id = t.org_id AND s.id = t.source_id
        WHERE t.org_id = $1 AND t.source_id = $2 AND t.name = ANY ($3) ORDER BY t.name FOR UPDATE OF t`,
      values: [orgId, sourceId, names],
    });
    const seen = new Map(rows.map((row) => [row.name, row.seen_hash]));
    const other = input.tools.find(({ name, hash }) => seen.get(name) !== hash);
    const [first] = rows;
    if (other !== undefined || first === undefined) {
      const name = (other?.name ?? "none").slice(0, 128);
      return err(userError("mcp_tool_changed", `The tool ${name} is not as it was read: look at it again.`));
    }
    await tx.query({
      text: `UPDATE mcp_tool SET approved_hash = seen_hash, approved_at = now(), approved_by = $4
        WHERE org_id = $1 AND source_id = $2 AND name = ANY ($3)`,
      values: [orgId, sourceId, names, principal.id],
    });
    const details = { sourceId, tools: input.tools.map(({ name, hash }) => ({ name, hash })) };
    const resource = mcpServerResource(first.label);
    await recordAudit(tx, auditOf(deps, principal, { action: APPROVE, resource, details }));
    return ok({ approved: names });
  });
};
