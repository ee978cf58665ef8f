import { forbidden, type Principal } from "@shaman/access";
import type { Db } from "@shaman/db";
import { err, ok, type Result } from "@shaman/kernel";

import { repositoryNotFound, type RepositoryKey } from "../sync/sync-lease.ts";

const SYNC = "repository:sync";

/**
 * Makes a repository due now, for the worker to sync: only it touches Git. `since` is the database's time; the sync that
 * was asked for has ended when the repository's `attemptedAt` is later. Needs `repository:sync`.
 */
export const requestSync = async (
  deps: { readonly db: Db },
  principal: Principal,
  idOrName: string,
): Promise<Result<{ readonly repositoryId: string; readonly since: Date }>> => {
  if (!principal.can(SYNC, "/repositories/")) return err(forbidden(SYNC));
  const { rows } = await deps.db.withOrg(principal.orgId, (tx) =>
    tx.query<{ repositoryId: string; since: Date }>({
      text: `UPDATE repository SET next_sync_at = now() WHERE org_id = $1 AND (id = $2 OR name = $2)
        RETURNING id AS "repositoryId", now() AS since`,
      values: [principal.orgId, idOrName],
    }),
  );
  const [requested] = rows;
  return requested === undefined ? err(repositoryNotFound()) : ok(requested);
};

/** Repositories of all organizations whose sync is due, the longest overdue first. */
export const listDueRepositories = async (
  deps: { readonly db: Db },
  input: { readonly limit: number },
): Promise<readonly RepositoryKey[]> => {
  const { rows } = await deps.db.unscoped((tx) =>
    tx.query<RepositoryKey>({
      name: "repositories_due",
      text: `SELECT org_id AS "orgId", id AS "repositoryId" FROM repository WHERE next_sync_at <= now()
        ORDER BY next_sync_at LIMIT $1`,
      values: [input.limit],
    }),
  );
  return rows;
};
