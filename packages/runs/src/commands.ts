import { auditStatement, auditValues, AUDIT_COLUMNS, type AuditEntry } from "@shaman/audit";
import { isUniqueViolation, toJsonb, type Db } from "@shaman/db";
import { err, newId, ok, userError, type JsonObject, type Result } from "@shaman/kernel";
import { CHANNELS, type FanOut, type JobQueue } from "@shaman/queue";
import { findDecision } from "./approval.ts";
import { contentHash, dedupeKeyOf, messageIdReused, type AcceptDeps } from "./accept.ts";
import type { CommandTarget } from "./command-target.ts";
import { askForRetry, retryJobOf, type RetryIds } from "./retry.ts";
import { wakeUpOf } from "./wake-up.ts";

export type CommandDeps = AcceptDeps & { readonly fanOut: FanOut };

const URGENT = 1;

// The wake makes a new job id, so that a worker looks at the run even if an older job is still queued.
const CANCEL = `
WITH command AS (
  INSERT INTO task_command (org_id, id, run_id, task_id, kind, payload, actor)
  SELECT $1, $4, $2, $3, 'cancel', $5, $6 FROM run
  WHERE org_id = $1 AND id = $2 AND finished_at IS NULL
  RETURNING id
)
UPDATE run SET wake = wake + 1, enqueued_at = now() FROM command WHERE org_id = $1 AND run.id = $2
RETURNING wake`;

/**
 * Leaves a command for the run's lease holder, with its audit row, and wakes one where nobody holds the lease. Gives
 * false, having changed nothing, when the run is finished already. The command's effect is seen in the run's events.
 */
export const commandRun = async (
  deps: CommandDeps,
  target: CommandTarget,
  command: { readonly kind: "cancel"; readonly payload?: JsonObject },
): Promise<boolean> => {
  const payload = toJsonb(command.payload ?? {});
  const values = [target.orgId, target.runId, target.taskId, newId("cmd"), payload, target.actor];
  return changeRun(deps, target, { name: "cancel_run", text: CANCEL, values, action: "task:cancel" });
};

// What the run waits for is compared in the statement that answers it, so that no decision reaches another question.
const DECIDE = `
WITH command AS (
  INSERT INTO task_command (org_id, id, run_id, task_id, kind, payload, actor)
  SELECT $1, $4, $2, $3, $5, $6::jsonb, $7 FROM run
  WHERE org_id = $1 AND id = $2 AND state = 'suspended' AND waits_for->>'kind' = $8
    AND ($9::text IS NULL OR waits_for->>'approvalId' = $9)
  ON CONFLICT (org_id, run_id) WHERE kind IN ('answer', 'approve', 'refuse') AND applied_at IS NULL DO NOTHING
  RETURNING id
)
UPDATE run SET wake = wake + 1, enqueued_at = now() FROM command WHERE org_id = $1 AND run.id = $2
RETURNING wake`;

/** What an operator says to a run that waits. A decision names the approval it is about. */
export type OperatorReply =
  | { readonly kind: "answer"; readonly text: string }
  | { readonly kind: "approve" | "refuse"; readonly approvalId: string; readonly reason?: string };

/**
 * Leaves an operator's answer or decision for a suspended run and wakes it. Gives false, having changed nothing, when the
 * run does not wait for that, or somebody else was quicker.
 */
export const replyToRun = (deps: CommandDeps, target: CommandTarget, reply: OperatorReply): Promise<boolean> => {
  const payload =
    reply.kind === "answer"
      ? {
          message: { messageId: newId("msg"), role: "ROLE_USER", taskId: target.taskId, parts: [{ text: reply.text }] },
        }
      : { approvalId: reply.approvalId, ...(reply.reason !== undefined && { reason: reply.reason }) };
  const approvalId = reply.kind === "answer" ? null : reply.approvalId;
  const waitsKind = reply.kind === "answer" ? "input" : "approval";
  const { orgId, runId, taskId, actor } = target;
  const values = [orgId, runId, taskId, newId("cmd"), reply.kind, toJsonb(payload), actor, waitsKind, approvalId];
  return changeRun(deps, target, { name: "decide_run", text: DECIDE, values, action: `task:${reply.kind}` });
};

const GO_ON = `
UPDATE run SET wake = wake + 1, wake_at = NULL, enqueued_at = now()
WHERE org_id = $1 AND id = $2 AND state = 'submitted' AND lease_until IS NULL
RETURNING wake`;

/** Has a run that waits for its time go on now. Gives false, having changed nothing, when it does not wait. */
export const goOnNow = (deps: CommandDeps, target: CommandTarget): Promise<boolean> =>
  changeRun(deps, target, {
    name: "go_on_now",
    text: GO_ON,
    values: [target.orgId, target.runId],
    action: "task:retry",
  });

const changeRun = async (
  deps: CommandDeps,
  target: CommandTarget,
  change: {
    readonly name: string;
    readonly text: string;
    readonly values: readonly unknown[];
    readonly action: string;
  },
): Promise<boolean> => {
  const { action, ...statement } = change;
  const [updated] = await deps.db.batch(target.orgId, [statement, auditStatement(auditEntryOf(target, action))]);
  const row = updated?.rows[0];
  if (row === undefined) return false;
  wake(deps, target, row.wake);
  return true;
};

/**
 * Has a failed run done again, as a new run: what is finished stays as it is. Gives the new run's ids, under which a
 * worker makes it at once or, should its job be lost, after the next sweep; nothing when the run has not failed.
 */
export const retryRun = async (deps: CommandDeps, target: CommandTarget): Promise<RetryIds | undefined> => {
  const ids = await askForRetry(deps.db, target);
  if (ids === undefined) return undefined;
  await deps.queue.add(retryJobOf({ orgId: target.orgId, commandId: ids.commandId })).catch((error: unknown) => {
    deps.onEnqueueFailed(error instanceof Error ? error : new Error(String(error)), ids.runId);
  });
  return ids;
};

const auditEntryOf = (target: CommandTarget, action: string): AuditEntry => ({
  orgId: target.orgId,
  actor: target.actor,
  action,
  resource: target.taskId,
  result: "ok",
  agent: target.agent,
  runId: target.runId,
  taskId: target.taskId,
  server: target.server,
  protocol: target.protocol,
});

// Whoever waits for the effect must be watching by the time a worker has it, so the queue is not waited for.
const wake = (
  deps: {
    readonly queue: JobQueue;
    readonly fanOut: FanOut;
    readonly onEnqueueFailed: AcceptDeps["onEnqueueFailed"];
  },
  target: { readonly orgId: string; readonly runId: string },
  number: number,
): void => {
  deps.fanOut.publish(CHANNELS.command, target.runId);
  const job = wakeUpOf({ orgId: target.orgId, runId: target.runId, wake: number, priority: URGENT });
  deps.queue.add(job).catch((error: unknown) => {
    deps.onEnqueueFailed(error instanceof Error ? error : new Error(String(error)), target.runId);
  });
};

// The question is a task's last message until somebody answers; from then on the task waits for nothing more, although
// its state changes only when a worker has taken the answer up.
const ANSWER = `
WITH waiting AS (
  SELECT t.run_id, m.position
  FROM task t, LATERAL (
    SELECT position, role FROM message WHERE org_id = $1 AND task_id = $2 ORDER BY position DESC LIMIT 1) m
  WHERE t.org_id = $1 AND t.id = $2 AND t.state = 'input_required' AND m.role = 'agent' AND ($25::text IS NULL OR $25 = (
    SELECT r.waits_for->>'approvalId' FROM run r WHERE r.org_id = $1 AND r.id = t.run_id))
), msg AS (
  INSERT INTO message (org_id, id, run_id, task_id, position, role, content, content_hash, dedupe_key)
  SELECT $1, $3, run_id, $2, position + 1, 'user', $4::jsonb, $5, $6 FROM waiting
  ON CONFLICT (org_id, dedupe_key) WHERE dedupe_key IS NOT NULL DO NOTHING
  RETURNING run_id
), command AS (
  INSERT INTO task_command (org_id, id, run_id, task_id, kind, payload, actor)
  SELECT $1, $7, run_id, $2, 'answer', $4::jsonb, $8 FROM msg
), act AS (
  INSERT INTO audit_log (${AUDIT_COLUMNS.join(", ")})
  SELECT $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22::integer, $23, $24::jsonb FROM msg
)
UPDATE run SET wake = wake + 1, enqueued_at = now() FROM msg WHERE run.org_id = $1 AND run.id = msg.run_id
RETURNING wake, last_seq`;

export type AnswerInput = CommandTarget & {
  readonly contextId: string;
  readonly principal: string;
  /** An A2A Message of the caller. */
  readonly message: JsonObject;
  readonly messageId: string | null;
  /** Always counts, and instead of the message id. */
  readonly idempotencyKey: string | undefined;
};

export type Answered = {
  /** False when the same message had been taken before. */
  readonly created: boolean;
  /** The last event before the answer's effect; 0 where the task has to be looked at to know. */
  readonly afterSeq: number;
};

/**
 * Takes a message for a task that waits for input (A2A 1.0.1 §3.4.3), with its command and audit row. A repeat of the same
 * message changes nothing. A decision about an approval counts only for the one that is waited for.
 * Errors: `task_not_waiting` when it does not wait (any more, or for this approval), `message_id_reused`.
 */
export const answerTask = async (deps: CommandDeps, input: AnswerInput): Promise<Result<Answered>> => {
  const dedupeKey = dedupeKeyOf(input);
  const hash = contentHash({ ...input.message, taskId: input.taskId });
  const content = toJsonb({ ...input.message, taskId: input.taskId, contextId: input.contextId });
  const answer = [input.orgId, input.taskId, newId("msg"), content, hash, dedupeKey, newId("cmd"), input.actor];
  const decision = findDecision(input.message);
  const audit = auditValues(auditEntryOf(input, decision === undefined ? "task:answer" : `task:${decision.decision}`));
  const approvalId = decision?.id ?? null;
  const statement = { name: "answer_task", text: ANSWER, values: [...answer, ...audit, approvalId] };
  try {
    const [updated] = await deps.db.batch(input.orgId, [statement]);
    const row = updated?.rows[0];
    if (row !== undefined) {
      wake(deps, input, row.wake);
      return ok({ created: true, afterSeq: row.last_seq });
    }
  } catch (error) {
    const raced =
      isUniqueViolation(error, "task_command_one_answer") ||
      isUniqueViolation(error, "message_org_id_task_id_position_key");
    if (!raced) throw error;
  }
  return dedupeKey === null
    ? err(notWaiting())
    : findRepeat(deps.db, { orgId: input.orgId, taskId: input.taskId, dedupeKey, hash });
};

const notWaiting = () =>
  userError(
    "task_not_waiting",
    "The task does not wait for this message now: it waits for nothing, or for a decision about another approval than this. Read the task for what it asks, or send a new message without taskId to start another one.",
  );

const findRepeat = async (
  db: Db,
  search: { readonly orgId: string; readonly taskId: string; readonly dedupeKey: string; readonly hash: string },
): Promise<Result<Answered>> => {
  const [found] = await db.batch(search.orgId, [
    {
      name: "find_repeat",
      text: "SELECT task_id, content_hash FROM message WHERE org_id = $1 AND dedupe_key = $2",
      values: [search.orgId, search.dedupeKey],
    },
  ]);
  const row = found?.rows[0];
  if (row === undefined) return err(notWaiting());
  if (row.task_id !== search.taskId || row.content_hash !== search.hash) return err(messageIdReused());
  return ok({ created: false, afterSeq: 0 });
};
