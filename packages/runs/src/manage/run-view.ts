import type { RunState } from "../states.ts";

/** A run as lists show it: one tree of tasks under a caller's task. */
export type RunView = {
  readonly id: string;
  readonly taskId: string;
  readonly contextId: string;
  readonly agent: string;
  readonly repositoryId: string;
  readonly commit: string;
  readonly state: RunState;
  readonly suspendedOn: "input" | "approval" | null;
  /** Whose run it is. */
  readonly principal: string;
  readonly apiKeyId: string | null;
  /** Of the key with which it was called, as it is named now. */
  readonly apiKeyName: string | null;
  readonly userId: string | null;
  readonly userName: string | null;
  readonly priority: number;
  /** Tries that failed and were followed by another one. */
  readonly attempts: number;
  readonly steps: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** Null where a model's price is not known. */
  readonly costUsd: number | null;
  readonly error: { readonly code: string; readonly message: string } | null;
  readonly createdAt: Date;
  readonly startedAt: Date | null;
  readonly finishedAt: Date | null;
  /** When it goes on by itself, where it waits for that. */
  readonly wakeAt: Date | null;
};

/** Of `run r`. */
export const RUN_COLUMNS = `r.id, r.root_task_id AS "taskId", r.context_id AS "contextId", r.agent,
  r.repository_id AS "repositoryId", r.commit, r.state, r.suspended_on AS "suspendedOn", r.principal,
  r.api_key_id AS "apiKeyId", (SELECT k.name FROM api_key k WHERE k.org_id = r.org_id AND k.id = r.api_key_id) AS "apiKeyName",
  r.user_id AS "userId", (SELECT u.name FROM "user" u WHERE u.id = r.user_id) AS "userName", r.priority, r.attempts, r.steps, r.input_tokens AS "inputTokens",
  r.output_tokens AS "outputTokens", CASE WHEN r.cost_known THEN r.cost_usd::float8 END AS "costUsd", r.error,
  r.created_at AS "createdAt", r.started_at AS "startedAt", r.finished_at AS "finishedAt",
  CASE WHEN r.finished_at IS NULL THEN r.wake_at END AS "wakeAt"`;
