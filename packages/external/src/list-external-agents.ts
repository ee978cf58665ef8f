import { forbidden, type Principal } from "@shaman/access";
import type { Db } from "@shaman/db";
import { err, ok, type Result } from "@shaman/kernel";

import {
  externalAgentNotFound,
  SELECT_VIEW,
  viewOf,
  type ExternalAgentRow,
  type ExternalAgentView,
} from "./external-agent.ts";

const READ = "externalAgent:read";
const MAX_PAGE = 200;

export type ListExternalAgentsInput = {
  /** At most 200. */
  readonly first?: number;
  /** The name of the last agent seen. */
  readonly after?: string;
};

export type ExternalAgentPage = { readonly agents: readonly ExternalAgentView[]; readonly endCursor: string | null };

/** The organization's outside agents by name, with their figures of the last day. Needs `externalAgent:read`. */
export const listExternalAgents = async (
  deps: { readonly db: Db },
  principal: Principal,
  input: ListExternalAgentsInput = {},
): Promise<Result<ExternalAgentPage>> => {
  if (!principal.can(READ, "/externalAgents/")) return err(forbidden(READ));
  const first = Math.min(Math.max(1, input.first ?? MAX_PAGE), MAX_PAGE);
  const { rows } = await deps.db.withOrg(principal.orgId, (tx) =>
    tx.query<ExternalAgentRow>({
      text: `${SELECT_VIEW} WHERE e.org_id = $1 AND e.name > $2 ORDER BY e.name LIMIT $3`,
      values: [principal.orgId, input.after ?? "", first + 1],
    }),
  );
  const agents = rows.slice(0, first).map(viewOf);
  return ok({ agents, endCursor: rows.length > first ? (agents.at(-1)?.name ?? null) : null });
};

/** One outside agent by id or name. Needs `externalAgent:read`. Errors: `forbidden`, `external_agent_not_found`. */
export const getExternalAgent = async (
  deps: { readonly db: Db },
  principal: Principal,
  idOrName: string,
): Promise<Result<ExternalAgentView>> => {
  if (!principal.can(READ, "/externalAgents/")) return err(forbidden(READ));
  const { rows } = await deps.db.withOrg(principal.orgId, (tx) =>
    tx.query<ExternalAgentRow>({
      text: `${SELECT_VIEW} WHERE e.org_id = $1 AND (e.id = $2 OR e.name = $2)`,
      values: [principal.orgId, idOrName],
    }),
  );
  const [row] = rows;
  return row === undefined ? err(externalAgentNotFound(idOrName)) : ok(viewOf(row));
};
