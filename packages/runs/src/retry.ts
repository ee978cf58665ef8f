import { auditStatement } from "@shaman/audit";
import { isUniqueViolation, toJsonb, type Db, type Statement } from "@shaman/db";
import { newId, type JsonObject } from "@shaman/kernel";
import type { WakeUp } from "@shaman/queue";
import { z } from "zod";
import type { CommandTarget } from "./command-target.ts";
import type { RunLimits } from "./run-limits.ts";

/** The job that makes a worker begin a failed run anew. */
export const RUN_RETRY = "run.retry";

export const runRetryPayload = z.object({ commandId: z.string() });

const URGENT = 1;

/** The job id is the command's, so that adding it twice is one job. */
export const retryJobOf = (input: { readonly orgId: string; readonly commandId: string }): WakeUp => ({
  orgId: input.orgId,
  jobId: `retry-${input.commandId}`,
  name: RUN_RETRY,
  data: { commandId: input.commandId },
  priority: URGENT,
});

/** The run that a retry begins. Its ids are chosen when it is asked for, so that whoever asks can watch it. */
export type RetryIds = { readonly commandId: string; readonly runId: string; readonly taskId: string };

const ASK = `
INSERT INTO task_command (org_id, id, run_id, task_id, kind, payload, actor)
SELECT $1, $4, $2, $3, 'retry', $5, $6 FROM run
WHERE org_id = $1 AND id = $2 AND state = 'failed'
RETURNING id`;

const retryPayload = z.object({ runId: z.string(), taskId: z.string() });

/**
 * Records that a failed run is to be done again, with its audit row. Terminal states are absorbing, so a worker makes a
 * new run from it. Asking again before that happened gives the same ids. Gives nothing when the run has not failed.
 */
export const askForRetry = async (db: Db, target: CommandTarget): Promise<RetryIds | undefined> => {
  const ids = { commandId: newId("cmd"), runId: newId("run"), taskId: newId("task") };
  const payload = toJsonb({ runId: ids.runId, taskId: ids.taskId });
  const ask: Statement = {
    name: "ask_for_retry",
    text: ASK,
    values: [target.orgId, target.runId, target.taskId, ids.commandId, payload, target.actor],
  };
  const audit = auditStatement({
    orgId: target.orgId,
    actor: target.actor,
    action: "task:retry",
    resource: target.taskId,
    result: "ok",
    agent: target.agent,
    runId: target.runId,
    taskId: target.taskId,
    server: target.server,
    protocol: target.protocol,
  });
  try {
    const [asked] = await db.batch(target.orgId, [ask, audit]);
    return asked?.rows[0] === undefined ? undefined : ids;
  } catch (error) {
    if (!isUniqueViolation(error, "task_command_one_retry")) throw error;
    return findOpenRetry(db, target);
  }
};

const findOpenRetry = async (
  db: Db,
  target: { readonly orgId: string; readonly runId: string },
): Promise<RetryIds | undefined> => {
  const [found] = await db.batch(target.orgId, [
    {
      name: "find_open_retry",
      text: "SELECT id, payload FROM task_command WHERE org_id = $1 AND run_id = $2 AND kind = 'retry' ORDER BY created_at DESC LIMIT 1",
      values: [target.orgId, target.runId],
    },
  ]);
  const row = found?.rows[0];
  return row === undefined ? undefined : { commandId: row.id, ...retryPayload.parse(row.payload) };
};

/** What a worker must know to begin a failed run anew. */
export type FailedRun = {
  readonly agent: string;
  readonly repositoryId: string;
  readonly commit: string;
  readonly limits: JsonObject;
};

/** The failed run that an open retry command names, or nothing when the command was carried out before. */
export const findRetry = async (
  db: Db,
  command: { readonly orgId: string; readonly commandId: string },
): Promise<(FailedRun & { readonly liveCommit: string | null; readonly message: JsonObject }) | undefined> => {
  const [found] = await db.batch(command.orgId, [
    {
      name: "find_retry",
      text: `SELECT r.agent, r.repository_id AS "repositoryId", r.commit, r.limits, p.live_commit AS "liveCommit",
          (SELECT m.content FROM message m WHERE m.org_id = r.org_id AND m.task_id = r.root_task_id AND m.position = 1) AS message
        FROM task_command c JOIN run r ON r.org_id = c.org_id AND r.id = c.run_id
        LEFT JOIN repository p ON p.org_id = r.org_id AND p.id = r.repository_id
        WHERE c.org_id = $1 AND c.id = $2 AND c.kind = 'retry' AND c.applied_at IS NULL AND r.state = 'failed'`,
      values: [command.orgId, command.commandId],
    },
  ]);
  const row = found?.rows[0];
  if (row === undefined) return undefined;
  const { agent, repositoryId, commit, limits, liveCommit, message } = row;
  return { agent, repositoryId, commit, limits, liveCommit, message: message ?? {} };
};

// Whoever marks the command makes the run; everybody else finds it marked. Messages of the caller but the first answered
// questions of the old task, and the new one may ask others.
const BEGIN_ANEW = `
WITH command AS (
  UPDATE task_command SET applied_at = now()
  WHERE org_id = $1 AND id = $2 AND kind = 'retry' AND applied_at IS NULL
  RETURNING run_id, actor, payload->>'runId' AS new_run_id, payload->>'taskId' AS new_task_id
), failed AS (
  SELECT command.new_run_id, command.new_task_id, command.actor, r.*, m.content, m.content_hash
  FROM command JOIN run r ON r.org_id = $1 AND r.id = command.run_id AND r.state = 'failed'
  JOIN message m ON m.org_id = $1 AND m.task_id = r.root_task_id AND m.position = 1
), new_run AS (
  INSERT INTO run (org_id, id, root_task_id, context_id, principal, api_key_id, user_id, agent, repository_id, commit,
    state, priority, limits, traceparent)
  SELECT $1, new_run_id, new_task_id, context_id, principal, api_key_id, user_id, agent, repository_id, $3,
    'submitted', priority, $4::jsonb, traceparent FROM failed
), new_task AS (
  INSERT INTO task (org_id, id, run_id, context_id, principal, agent, state)
  SELECT $1, new_task_id, new_run_id, context_id, principal, agent, 'submitted' FROM failed
), msg AS (
  INSERT INTO message (org_id, id, run_id, task_id, position, role, content, content_hash)
  SELECT $1, $5, new_run_id, new_task_id, 1, 'user', content || jsonb_build_object('taskId', new_task_id,
    'referenceTaskIds', coalesce(content->'referenceTaskIds', '[]') || to_jsonb(root_task_id)), content_hash FROM failed
), first_event AS (
  INSERT INTO run_event (org_id, run_id, seq, task_id, type, payload, lease_epoch)
  SELECT $1, new_run_id, 1, new_task_id, 'task.status', $6::jsonb, 0 FROM failed
), act AS (
  INSERT INTO audit_log (org_id, actor, action, resource, result, agent, run_id, task_id, user_id, server, details)
  SELECT $1, actor, 'agent:execute', '/agents/' || agent || '/', 'ok', agent, new_run_id, new_task_id, user_id, 'worker',
    jsonb_build_object('retryOf', root_task_id) FROM failed
)
SELECT new_run_id, priority FROM failed`;

/**
 * Makes the new run of a retry: the same message in the same context for the same caller, naming the old task, at this
 * commit and within these limits. Gives nothing, having changed nothing, when that was done before.
 */
export const beginAnew = async (
  db: Db,
  input: {
    readonly orgId: string;
    readonly commandId: string;
    readonly commit: string;
    readonly limits: RunLimits | JsonObject;
  },
): Promise<{ readonly runId: string; readonly priority: number } | undefined> => {
  const status = { state: "submitted", timestamp: new Date().toISOString() };
  const values = [input.orgId, input.commandId, input.commit, toJsonb(input.limits), newId("msg"), toJsonb(status)];
  const [begun] = await db.batch(input.orgId, [{ name: "begin_anew", text: BEGIN_ANEW, values }]);
  const row = begun?.rows[0];
  return row === undefined ? undefined : { runId: row.new_run_id, priority: row.priority };
};
