import { forbidden, type Principal } from "@shaman/access";
import type { Db } from "@shaman/db";
import { err, ok, type Result } from "@shaman/kernel";

import type { Problem } from "../definition/problem.ts";
import { repositoryNotFound } from "../sync/sync-lease.ts";
import { REPOSITORY_COLUMNS, type RepositoryDetail, type RepositoryView } from "./repository-view.ts";

const READ = "repository:read";

export type ListRepositoriesInput = {
  /** At most 200. */
  readonly first?: number;
  /** The name of the last repository seen. */
  readonly after?: string;
};

export type RepositoryPage = { readonly repositories: readonly RepositoryView[]; readonly endCursor: string | null };

const MAX_PAGE = 200;

/** The organization's repositories by name. Needs `repository:read`. */
export const listRepositories = async (
  deps: { readonly db: Db },
  principal: Principal,
  input: ListRepositoriesInput = {},
): Promise<Result<RepositoryPage>> => {
  if (!principal.can(READ, "/repositories/")) return err(forbidden(READ));
  const first = Math.min(Math.max(1, input.first ?? MAX_PAGE), MAX_PAGE);
  const { rows } = await deps.db.withOrg(principal.orgId, (tx) =>
    tx.query<RepositoryView>({
      text: `SELECT ${REPOSITORY_COLUMNS} FROM repository r WHERE r.org_id = $1 AND r.name > $2 ORDER BY r.name LIMIT $3`,
      values: [principal.orgId, input.after ?? "", first + 1],
    }),
  );
  const repositories = rows.slice(0, first);
  return ok({ repositories, endCursor: rows.length > first ? (repositories.at(-1)?.name ?? null) : null });
};

/** One repository by id or name, with the problems of its latest commit. Needs `repository:read`. Error: `repository_not_found_here`. */
export const getRepository = async (
  deps: { readonly db: Db },
  principal: Principal,
  idOrName: string,
): Promise<Result<RepositoryDetail>> => {
  if (!principal.can(READ, "/repositories/")) return err(forbidden(READ));
  const { rows } = await deps.db.withOrg(principal.orgId, (tx) =>
    tx.query<RepositoryView & { readonly problems: readonly Problem[] }>({
      text: `SELECT ${REPOSITORY_COLUMNS}, r.problems FROM repository r WHERE r.org_id = $1 AND (r.id = $2 OR r.name = $2)`,
      values: [principal.orgId, idOrName],
    }),
  );
  const [repository] = rows;
  return repository === undefined ? err(repositoryNotFound()) : ok(repository);
};
