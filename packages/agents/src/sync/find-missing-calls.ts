import type { Db } from "@shaman/db";
import type { Problem } from "../definition/problem.ts";
import { missingCalls, namesWithin } from "../repository/calls-elsewhere.ts";
import type { RepositoryContent } from "../repository/read-agents.ts";
import { loadLiveNames } from "../resolve/live-names.ts";
import type { HeldRepository } from "./sync-lease.ts";

const listOutside = async (db: Db, orgId: string): Promise<readonly string[]> => {
  const { rows } = await db.withOrg(orgId, (tx) =>
    tx.query<{ name: string }>({
      name: "external_names",
      text: "SELECT name FROM external_agent WHERE org_id = $1",
      values: [orgId],
    }),
  );
  return rows.map(({ name }) => name);
};

/** Warnings of what a commit's agents call and nobody in the organization has: not exposed elsewhere, not registered. */
export const findMissingCalls = async (
  db: Db,
  { orgId, repositoryId, name: repository }: HeldRepository,
  content: RepositoryContent,
): Promise<readonly Problem[]> => {
  if (content.calls.length === 0) return [];
  const live = await loadLiveNames(db, orgId);
  const outside = await listOutside(db, orgId);
  const known = new Set([
    // What this repository exposed so far may not be there with this commit.
    ...[...live.byName].flatMap(([name, agent]) => (agent.repositoryId === repositoryId ? [] : [name])),
    ...content.agents.flatMap(({ definition: { exposed, path } }) => (exposed ? [`${repository}:${path}`] : [])),
    ...outside,
  ]);
  const missing = content.calls.filter(({ name }) => !known.has(name));
  const near = new Set([...namesWithin(content), ...live.names, ...outside]);
  return missingCalls(missing, {
    known: [...near],
    consequence: "at the time of this sync, so that it cannot be called",
  });
};
