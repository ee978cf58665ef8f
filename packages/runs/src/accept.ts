import { createHash } from "node:crypto";
import { auditValues } from "@shaman/audit";
import { toJsonb, type Db } from "@shaman/db";
import { AppError, err, newId, ok, userError, type JsonObject, type Result } from "@shaman/kernel";
import type { JobQueue } from "@shaman/queue";
import type { RunLimits } from "./run-limits.ts";
import { wakeUpOf } from "./wake-up.ts";

export type AcceptDeps = {
  readonly db: Db;
  readonly queue: JobQueue;
  /** Told when a recorded run could not be put into the queue; the sweep will. */
  readonly onEnqueueFailed: (error: Error, runId: string) => void;
};

export type AcceptInput = {
  readonly orgId: string;
  readonly principal: string;
  readonly apiKeyId: string | null;
  readonly userId: string | null;
  readonly agent: string;
  readonly repositoryId: string;
  readonly commit: string;
  readonly limits: RunLimits;
  readonly priority: number;
  /** An A2A Message; its taskId and contextId are set here. */
  readonly message: JsonObject;
  readonly contextId: string | undefined;
  /** The caller's message id, or null where the agent lets callers reuse ids. */
  readonly messageId: string | null;
  /** Always counts, and instead of the message id. */
  readonly idempotencyKey: string | undefined;
  readonly traceparent: string | undefined;
  readonly ip: string | undefined;
  readonly protocol: string;
  /**
   * `later` where the caller is answered only after the run has committed more, which makes this safe too; the time until
   * then would otherwise begin with waiting for the disk.
   */
  readonly durable?: "at once" | "later";
};

export type Accepted = {
  readonly runId: string;
  readonly taskId: string;
  readonly contextId: string;
  /** False when the same message had been accepted before. */
  readonly created: boolean;
  /** When the task became SUBMITTED; only for a new one. */
  readonly at: Date;
};

const ACCEPT = `
WITH msg AS (
  INSERT INTO message (org_id, id, run_id, task_id, position, role, content, content_hash, dedupe_key)
  VALUES ($1, $2, $3, $4, 1, 'user', $5, $6, $7)
  ON CONFLICT (org_id, dedupe_key) WHERE dedupe_key IS NOT NULL DO NOTHING
  RETURNING id
), new_context AS (
  INSERT INTO context (org_id, principal, id) SELECT $1, $8, $9 FROM msg ON CONFLICT DO NOTHING
), new_run AS (
  INSERT INTO run (org_id, id, root_task_id, context_id, principal, api_key_id, user_id, agent, repository_id, commit,
    state, priority, limits, traceparent)
  SELECT $1, $3, $4, $9, $8, $10, $11, $12, $13, $14, 'submitted', $15, $16, $17 FROM msg
), new_task AS (
  INSERT INTO task (org_id, id, run_id, context_id, principal, agent, state)
  SELECT $1, $4, $3, $9, $8, $12, 'submitted' FROM msg
), first_event AS (
  INSERT INTO run_event (org_id, run_id, seq, task_id, type, payload, lease_epoch)
  SELECT $1, $3, 1, $4, 'task.status', $18, 0 FROM msg
), act AS (
  INSERT INTO audit_log (org_id, actor, action, resource, result, agent, tool, run_id, task_id, trace_id, user_id, server,
    protocol, duration_ms, ip, details)
  SELECT $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32::integer, $33, $34::jsonb FROM msg
)
SELECT id FROM msg`;

/** Writes something, so that the commit waits for the disk, and with it for the run it found: that may still be on its way. */
const FLUSH = { name: "flush", text: "SELECT pg_logical_emit_message(true, 'shaman', '')" };

/**
 * Waits until the disk has everything committed so far. For answering about a run whose intake was committed `later`
 * before the run itself has committed anything.
 */
export const makeDurable = async (db: Db, orgId: string): Promise<void> => {
  await db.batch(orgId, [FLUSH]);
};

const FIND_DUPLICATE = `
SELECT m.run_id, m.task_id, m.content_hash,
  (SELECT t.context_id FROM task t WHERE t.org_id = $1 AND t.id = m.task_id) AS context_id
FROM message m WHERE m.org_id = $1 AND m.dedupe_key = $2`;

/**
 * Records a new task for a message, in one transaction with its run, context, first event and audit row, and wakes a
 * worker. A repeat of the same message (guarantee 5) gives the task it made before and changes nothing.
 * Errors: `message_id_reused` when the id came before with other content. A2A 1.0.1 §3.1.1, §3.3.1.
 */
export const acceptMessage = async (deps: AcceptDeps, input: AcceptInput): Promise<Result<Accepted>> => {
  const runId = newId("run");
  const taskId = newId("task");
  const contextId = input.contextId ?? newId("ctx");
  const at = new Date();
  const dedupeKey = dedupeKeyOf(input);
  const hash = contentHash(input.message);
  const status = { state: "submitted", timestamp: at.toISOString() };
  const audit = auditValues({
    orgId: input.orgId,
    actor: input.apiKeyId === null ? input.principal : `key:${input.apiKeyId}`,
    action: "agent:execute",
    resource: `/agents/${input.agent}/`,
    result: "ok",
    agent: input.agent,
    runId,
    taskId,
    traceId: input.traceparent?.split("-")[1],
    userId: input.userId ?? undefined,
    server: "public",
    protocol: input.protocol,
    ip: input.ip,
  });
  const statement = {
    name: "accept_run",
    text: ACCEPT,
    values: [
      input.orgId,
      newId("msg"),
      runId,
      taskId,
      toJsonb({ ...input.message, taskId, contextId }),
      hash,
      dedupeKey,
      input.principal,
      contextId,
      input.apiKeyId,
      input.userId,
      input.agent,
      input.repositoryId,
      input.commit,
      input.priority,
      toJsonb(input.limits),
      input.traceparent ?? null,
      toJsonb(status),
      ...audit,
    ],
  };
  const [inserted] = await deps.db.batch(input.orgId, [statement], { durable: input.durable ?? "at once" });
  if (inserted?.rowCount === 0 && dedupeKey !== null) return findDuplicate(deps.db, { input, dedupeKey, hash });

  const wake = wakeUpOf({ orgId: input.orgId, runId, wake: 1, priority: input.priority });
  deps.queue.add(wake).catch((error: unknown) => {
    deps.onEnqueueFailed(error instanceof Error ? error : new Error(String(error)), runId);
  });
  return ok({ runId, taskId, contextId, created: true, at });
};

const findDuplicate = async (
  db: Db,
  search: { readonly input: AcceptInput; readonly dedupeKey: string; readonly hash: string },
): Promise<Result<Accepted>> => {
  const { orgId } = search.input;
  const [found] = await db.batch(orgId, [
    { name: "find_duplicate", text: FIND_DUPLICATE, values: [orgId, search.dedupeKey] },
    FLUSH,
  ]);
  const row = found?.rows[0];
  if (row === undefined) {
    throw new AppError({ code: "duplicate_vanished", kind: "unexpected", message: "An accepted message is gone" });
  }
  if (row.content_hash !== search.hash) return err(messageIdReused());
  const { run_id: runId, task_id: taskId, context_id: contextId } = row;
  return ok({ runId, taskId, contextId, created: false, at: new Date() });
};

export const messageIdReused = (): AppError =>
  userError(
    "message_id_reused",
    "This message id (or Idempotency-Key) was used before with other content. Use a new one for a new message.",
    { field: "message.messageId" },
  );

/** What identifies a message among those of its organization, or null where nothing does. */
export const dedupeKeyOf = (input: {
  readonly principal: string;
  readonly agent: string;
  readonly messageId: string | null;
  readonly idempotencyKey: string | undefined;
}): string | null => {
  const owner = `${input.principal}\n${input.agent}\n`;
  if (input.idempotencyKey !== undefined) return `${owner}key\n${input.idempotencyKey}`;
  return input.messageId === null ? null : `${owner}id\n${input.messageId}`;
};

/** Hash of what a message says. Its id is no part of that, and the order of keys does not count. */
export const contentHash = ({ messageId: _id, ...content }: JsonObject): string =>
  createHash("sha256").update(JSON.stringify(content, sortKeys)).digest("base64url");

const sortKeys = (_key: string, value: unknown): unknown => {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1)));
};
