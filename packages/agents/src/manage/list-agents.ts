import { forbidden, type Principal } from "@shaman/access";
import type { Db } from "@shaman/db";
import { err, ok, userError, type Result } from "@shaman/kernel";

import { didYouMean } from "../definition/near-name.ts";
import { loadVersions } from "../resolve/load-versions.ts";
import type { AgentDefinition } from "../definition/agent-definition.ts";

const READ = "agent:read";

/** A live agent, exposed or private, as lists show it. */
export type AgentView = {
  readonly id: string;
  readonly name: string;
  readonly path: string;
  readonly repositoryId: string;
  readonly repository: string;
  readonly description: string;
  readonly exposed: boolean;
  readonly model: string | null;
  readonly tags: readonly string[];
  readonly versionId: string;
  /** The commit in which this version of it came. */
  readonly commit: string;
  readonly updatedAt: Date;
};

export type ListAgentsInput = {
  readonly repositoryId?: string;
  /** At most 200. */
  readonly first?: number;
  readonly after?: string;
};

export type AgentPage = { readonly agents: readonly AgentView[]; readonly endCursor: string | null };

const MAX_PAGE = 200;
const COLUMNS = `g.id, g.name, g.path, g.repository_id AS "repositoryId", r.name AS repository, g.description, g.exposed,
  g.model, g.tags, g.version_id AS "versionId", v.first_commit AS commit, g.updated_at AS "updatedAt"`;
const FROM = `FROM agent g
  JOIN repository r ON r.org_id = g.org_id AND r.id = g.repository_id
  JOIN agent_version v ON v.org_id = g.org_id AND v.id = g.version_id`;

/** A cursor is the last row's name and id: names of private agents may repeat in other repositories. */
const readCursor = (cursor: string): readonly [string, string] | undefined => {
  const [name = "", id = "", ...rest] = cursor.split(" ");
  return name !== "" && id !== "" && rest.length === 0 ? [name, id] : undefined;
};

/** The organization's live agents by name, private ones too. Needs `agent:read`. Errors: `forbidden`, `invalid_input`. */
export const listAgents = async (
  deps: { readonly db: Db },
  principal: Principal,
  input: ListAgentsInput = {},
): Promise<Result<AgentPage>> => {
  if (!principal.can(READ, "/agents/")) return err(forbidden(READ));
  const after = input.after === undefined ? (["", ""] as const) : readCursor(input.after);
  if (after === undefined) return err(userError("invalid_input", "This is no cursor of this list: start without it."));
  const first = Math.min(Math.max(1, input.first ?? MAX_PAGE), MAX_PAGE);
  const { rows } = await deps.db.withOrg(principal.orgId, (tx) =>
    tx.query<AgentView>({
      text: `SELECT ${COLUMNS} ${FROM} WHERE g.org_id = $1 AND g.live AND (g.name, g.id) > ($2, $3)
        AND ($4::text IS NULL OR g.repository_id = $4) ORDER BY g.name, g.id LIMIT $5`,
      values: [principal.orgId, ...after, input.repositoryId ?? null, first + 1],
    }),
  );
  const agents = rows.slice(0, first);
  const last = agents.at(-1);
  return ok({ agents, endCursor: rows.length > first && last !== undefined ? `${last.name} ${last.id}` : null });
};

/**
 * One live agent with its definition, by id, name, path or `repository:path`. Needs `agent:read`. Errors: `forbidden`,
 * `agent_not_found`, and `agent_ambiguous` when several repositories have a private agent of that name.
 */
export const getAgent = async (
  deps: { readonly db: Db },
  principal: Principal,
  name: string,
): Promise<Result<AgentView & { readonly definition: AgentDefinition }>> => {
  if (!principal.can(READ, "/agents/")) return err(forbidden(READ));
  const { orgId } = principal;
  const { found, names } = await deps.db.withOrg(orgId, async (tx) => {
    const { rows } = await tx.query<AgentView>({
      text: `SELECT ${COLUMNS} ${FROM} WHERE g.org_id = $1 AND g.live
        AND (g.id = $2 OR g.name = $2 OR g.path = $2 OR r.name || ':' || g.path = $2) ORDER BY g.name, g.id LIMIT 20`,
      values: [orgId, name],
    });
    if (rows.length > 0) return { found: rows, names: [] };
    const all = await tx.query<{ name: string }>({
      text: "SELECT DISTINCT name FROM agent WHERE org_id = $1 AND live LIMIT 5000",
      values: [orgId],
    });
    return { found: rows, names: all.rows.map((row) => row.name) };
  });
  // A name that several have is the exposed one's: it alone may be called so from outside.
  const agent = found.length > 1 ? found.find((each) => each.exposed) : found[0];
  if (agent === undefined && found.length > 1) {
    const places = found.map((each) => `${each.repository}:${each.path}`).join(", ");
    return err(userError("agent_ambiguous", `Several agents are called so: ${places}. Name one of them in full.`));
  }
  const versions = agent === undefined ? undefined : await loadVersions(deps.db, orgId, [agent.versionId]);
  const version = agent === undefined ? undefined : versions?.get(agent.versionId);
  if (agent === undefined || version === undefined) {
    const shown = name.slice(0, 200);
    return err(userError("agent_not_found", `There is no agent ${JSON.stringify(shown)}.${didYouMean(shown, names)}`));
  }
  return ok({ ...agent, definition: version.definition });
};
