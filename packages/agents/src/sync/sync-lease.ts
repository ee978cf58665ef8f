import { randomUUID } from "node:crypto";
import { setTimeout as wait } from "node:timers/promises";

import { toJsonb, type Db } from "@shaman/db";
import { err, ok, userError, type AppError, type Result } from "@shaman/kernel";

import type { Problem } from "../definition/problem.ts";
import { syncAborted } from "../git/git-error.ts";

export type RepositoryKey = { readonly orgId: string; readonly repositoryId: string };

/** A repository whose sync is ours for a while. */
export type HeldRepository = RepositoryKey & {
  readonly token: string;
  readonly name: string;
  readonly url: string;
  readonly branch: string;
  readonly directory: string;
  readonly liveCommit: string | null;
  readonly seenCommit: string | null;
  readonly problems: readonly Problem[];
  readonly secret: { readonly id: string; readonly origin: string; readonly sealed: string } | null;
};

/** How a sync that somebody else did has ended. */
export type RecordedSync = {
  readonly state: string;
  readonly liveCommit: string | null;
  readonly seenCommit: string | null;
  readonly problems: readonly Problem[];
  readonly error: { readonly code: string; readonly message: string } | null;
};

/** Longer than a fetch, a reading and a writing at their own limits together. */
const LEASE_SECONDS = 240;
const POLL_MS = 150;

/** A crashed sync is due again when its lease is over, also where nothing else would start it. */
const ACQUIRE = `
UPDATE repository r SET sync_state = 'syncing', sync_token = $3, sync_until = now() + make_interval(secs => $4),
  next_sync_at = now() + make_interval(secs => $4)
WHERE r.org_id = $1 AND r.id = $2 AND (r.sync_token IS NULL OR r.sync_until < now())
RETURNING r.name, r.url, r.branch, r.directory, r.live_commit AS "liveCommit", r.seen_commit AS "seenCommit", r.problems,
  (SELECT jsonb_build_object('id', s.id, 'origin', s.origin, 'sealed', s.sealed) FROM secret s
    WHERE s.org_id = r.org_id AND s.id = r.secret_id) AS secret`;

const LOOK = `
SELECT sync_state AS state, live_commit AS "liveCommit", seen_commit AS "seenCommit", problems, sync_error AS error
FROM repository WHERE org_id = $1 AND id = $2`;

export const repositoryNotFound = (): AppError =>
  userError("repository_not_found_here", "There is no such repository. List them to see what there is.");

/**
 * Takes the sync of a repository. While somebody else has it, waits for its end and tells how it ended instead, so that
 * two who ask at once share one job. Error: `repository_not_found_here`.
 */
export const acquireSync = async (
  db: Db,
  key: RepositoryKey,
  signal?: AbortSignal,
): Promise<Result<{ readonly held: HeldRepository } | { readonly recorded: RecordedSync }>> => {
  const token = randomUUID();
  const values = [key.orgId, key.repositoryId];
  let waited = false;
  for (;;) {
    const { taken, seen } = await db.withOrg(key.orgId, async (tx) => {
      const look = await tx.query<RecordedSync>({ name: "sync_look", text: LOOK, values });
      const current = look.rows[0];
      if (current === undefined || (waited && current.state !== "syncing")) return { taken: undefined, seen: current };
      const acquired = await tx.query<Omit<HeldRepository, "orgId" | "repositoryId" | "token">>({
        name: "sync_acquire",
        text: ACQUIRE,
        values: [...values, token, LEASE_SECONDS],
      });
      return { taken: acquired.rows[0], seen: current };
    });
    if (seen === undefined) return err(repositoryNotFound());
    if (taken !== undefined) return ok({ held: { ...key, token, ...taken } });
    if (waited && seen.state !== "syncing") return ok({ recorded: seen });
    if (signal?.aborted === true) return err(syncAborted());
    waited = true;
    await wait(POLL_MS);
  }
};

/** What a sync leaves in its repository's row when it did not switch it to a new commit. */
export type SyncEnd = {
  readonly state: "ok" | "failed";
  readonly seenCommit?: string;
  readonly problems: readonly Problem[];
  readonly error: { readonly code: string; readonly message: string } | null;
  /** Try again after this many seconds at the latest. */
  readonly retrySeconds: number | null;
};

export const RELEASE = `
UPDATE repository SET sync_state = $4, seen_commit = coalesce($5, seen_commit), problems = $6, sync_error = $7,
  sync_token = NULL, sync_until = NULL, attempted_at = now(),
  synced_at = CASE WHEN $4 = 'ok' THEN now() ELSE synced_at END,
  next_sync_at = now() + make_interval(secs => least(sync_every_seconds, $8::integer))
WHERE org_id = $1 AND id = $2 AND sync_token = $3`;

export const releaseValues = (held: HeldRepository, end: SyncEnd): readonly unknown[] => [
  held.orgId,
  held.repositoryId,
  held.token,
  end.state,
  end.seenCommit ?? null,
  toJsonb(end.problems),
  end.error === null ? null : toJsonb(end.error),
  end.retrySeconds,
];
