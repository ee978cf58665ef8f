import type { Db } from "@shaman/db";

/** Where a public name leads right now. */
export type LiveAgent = {
  readonly agentId: string;
  readonly repositoryId: string;
  readonly repository: string;
  readonly commit: string;
  readonly path: string;
  readonly name: string;
  readonly versionId: string;
};

/** The public names of one organization, as of one moment. */
export type LiveNames = {
  /** By name, by alias, by path, and by `repository:path`. */
  readonly byName: ReadonlyMap<string, LiveAgent>;
  /** Names and aliases, for suggestions. */
  readonly names: readonly string[];
  /** Ordered by name. */
  readonly agents: readonly LiveAgent[];
  readonly defaultAgent: LiveAgent | undefined;
};

type Row = LiveAgent & { readonly alias: string | null; readonly isDefault: boolean };

/** One statement, so that names, aliases and commits belong together while a sync switches them. */
const LIVE = `
SELECT g.id AS "agentId", g.repository_id AS "repositoryId", r.name AS repository, r.live_commit AS commit, g.path, g.name,
  g.version_id AS "versionId", a.name AS alias, r.default_agent IS NOT DISTINCT FROM g.path AS "isDefault"
FROM agent g
JOIN repository r ON r.org_id = g.org_id AND r.id = g.repository_id
LEFT JOIN alias a ON a.org_id = g.org_id AND a.repository_id = g.repository_id AND a.target = g.path
WHERE g.org_id = $1 AND g.live AND g.exposed AND r.live_commit IS NOT NULL
ORDER BY r.created_at, r.id, g.name`;

/** Loads the public names of an organization. Where several repositories have a default agent, the oldest one's counts. */
export const loadLiveNames = async (db: Db, orgId: string): Promise<LiveNames> => {
  const { rows } = await db.withOrg(orgId, (tx) => tx.query<Row>({ name: "agents_live", text: LIVE, values: [orgId] }));
  const byName = new Map<string, LiveAgent>();
  const agents = new Map<string, LiveAgent>();
  const aliases: [string, LiveAgent][] = [];
  let defaultAgent: LiveAgent | undefined;
  for (const { alias, isDefault, ...row } of rows) {
    const agent = agents.get(row.agentId) ?? row;
    agents.set(row.agentId, agent);
    if (alias !== null) aliases.push([alias, agent]);
    if (isDefault) defaultAgent ??= agent;
  }
  for (const agent of agents.values()) {
    byName.set(agent.path, agent);
    byName.set(`${agent.repository}:${agent.path}`, agent);
  }
  for (const [alias, agent] of aliases) byName.set(alias, agent);
  for (const agent of agents.values()) byName.set(agent.name, agent);
  const sorted = [...agents.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const [only] = sorted;
  return {
    byName,
    names: [...new Set([...sorted.map(({ name }) => name), ...aliases.map(([alias]) => alias)])],
    agents: sorted,
    defaultAgent: defaultAgent ?? (sorted.length === 1 ? only : undefined),
  };
};
