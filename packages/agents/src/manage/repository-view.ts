import { resourceSegment } from "@shaman/access";

import type { Problem } from "../definition/problem.ts";

/** A repository as people and scripts see it. */
export type RepositoryView = {
  readonly id: string;
  readonly name: string;
  readonly url: string;
  readonly branch: string;
  readonly directory: string;
  readonly hasCredential: boolean;
  readonly syncEverySeconds: number | null;
  readonly state: "never" | "syncing" | "ok" | "failed";
  /** What new runs get. */
  readonly liveCommit: string | null;
  /** The latest commit that was looked at; it differs from `liveCommit` when it was refused. */
  readonly seenCommit: string | null;
  readonly error: { readonly code: string; readonly message: string } | null;
  readonly agents: number;
  /** Without warnings. */
  readonly problemCount: number;
  readonly createdAt: Date;
  /** The end of the last sync that went well, and of the last one at all. */
  readonly syncedAt: Date | null;
  readonly attemptedAt: Date | null;
  readonly nextSyncAt: Date | null;
};

/** With everything that is wrong with the latest commit, or that the live one was warned of. */
export type RepositoryDetail = RepositoryView & { readonly problems: readonly Problem[] };

export const REPOSITORY_COLUMNS = `r.id, r.name, r.url, r.branch, r.directory, r.secret_id IS NOT NULL AS "hasCredential",
  r.sync_every_seconds AS "syncEverySeconds", r.sync_state AS state, r.live_commit AS "liveCommit",
  r.seen_commit AS "seenCommit", r.sync_error AS error,
  (SELECT count(*) FROM agent g WHERE g.org_id = r.org_id AND g.repository_id = r.id AND g.live) AS agents,
  (SELECT count(*) FROM jsonb_array_elements(r.problems) p WHERE p -> 'severity' IS NULL) AS "problemCount", r.created_at AS "createdAt", r.synced_at AS "syncedAt",
  r.attempted_at AS "attemptedAt", r.next_sync_at AS "nextSyncAt"`;

export const repositoryResource = (name: string): string => `/repositories/${resourceSegment(name)}/`;
