import { createHash } from "node:crypto";
import { AUDIT_COLUMNS, auditRecord, auditRow } from "@shaman/audit";
import { toJsonb, type Db, type SharedWork } from "@shaman/db";
import {
  AppError,
  canonicalJson,
  err,
  newId,
  ok,
  userError,
  type JsonObject,
  type Result,
  type Tally,
} from "@shaman/kernel";
import type { JobQueue } from "@shaman/queue";
import { assignmentOf } from "./assigned-run.ts";
import type { Offers } from "./offers.ts";
import type { RunLimits } from "./run-limits.ts";
import { wakeUpOf } from "./wake-up.ts";

export type AcceptDeps = {
  readonly db: Db;
  readonly queue: JobQueue;
  /** Workers that would begin a run at once; without them each run goes through the queue. */
  readonly offers?: Offers;
  /** Calls that are waited for on this server, among them those that are taken in `later`. */
  readonly calls?: Pick<Tally, "total">;
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
  /** Whether what the run may cost must be reserved before it begins. */
  readonly spendIsLimited: boolean;
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

// Everything of a message hangs on its own row: one that came before under the same key makes nothing new. A run that has
// a holder is claimed here, as `lease.ts` would claim it.
const ACCEPT = `
WITH input AS MATERIALIZED (
  SELECT * FROM jsonb_to_recordset($2::jsonb) AS i (message_id text, run_id text, task_id text, content jsonb, hash text,
    dedupe_key text, principal text, context_id text, api_key_id text, user_id text, agent text, repository_id text, commit text,
    priority integer, limits jsonb, traceparent text, status jsonb, audit jsonb, holder text, lease_ms integer,
    deadline timestamptz, notify text, told text)
), msg AS (
  INSERT INTO message (org_id, id, run_id, task_id, position, role, content, content_hash, dedupe_key)
  SELECT $1, message_id, run_id, task_id, 1, 'user', content, hash, dedupe_key FROM input
  ON CONFLICT (org_id, dedupe_key) WHERE dedupe_key IS NOT NULL DO NOTHING
  RETURNING task_id AS new_task_id
), fresh AS MATERIALIZED (
  SELECT * FROM input WHERE task_id IN (SELECT new_task_id FROM msg)
), new_context AS (
  INSERT INTO context (org_id, principal, id) SELECT $1, principal, context_id FROM fresh ON CONFLICT DO NOTHING
), new_run AS (
  INSERT INTO run (org_id, id, root_task_id, context_id, principal, api_key_id, user_id, agent, repository_id, commit,
    state, priority, limits, traceparent, lease_epoch, lease_until, worker, barren_claims, started_at, deadline)
  SELECT $1, run_id, task_id, context_id, principal, api_key_id, user_id, agent, repository_id, commit,
    CASE WHEN holder IS NULL THEN 'submitted' ELSE 'working' END, priority, limits, traceparent, num_nonnulls(holder),
    now() + lease_ms * interval '1 millisecond', holder, num_nonnulls(holder), CASE WHEN holder IS NOT NULL THEN now() END, deadline
  FROM fresh
), new_task AS (
  INSERT INTO task (org_id, id, run_id, context_id, principal, agent, state)
  SELECT $1, task_id, run_id, context_id, principal, agent, 'submitted' FROM fresh
), first_event AS (
  INSERT INTO run_event (org_id, run_id, seq, task_id, type, payload, lease_epoch)
  SELECT $1, run_id, 1, task_id, 'task.status', status, 0 FROM fresh
), act AS (
  INSERT INTO audit_log (${AUDIT_COLUMNS.join(", ")})
  SELECT ${AUDIT_COLUMNS.map((column) => `a.${column}`).join(", ")} FROM fresh, ${auditRecord("fresh.audit")}
)
SELECT task_id, CASE WHEN notify IS NOT NULL THEN pg_notify(notify, told) END FROM fresh`;

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
 * Records a new task for a message, in one transaction with its run, context, first event and audit row, and gives it to
 * a worker that is idle, or to the queue. A repeat of the same message (guarantee 5) gives the task it made before and
 * changes nothing.
 * Errors: `message_id_reused` when the id came before with other content. A2A 1.0.1 §3.1.1, §3.3.1.
 */
export const acceptMessage = async (deps: AcceptDeps, input: AcceptInput): Promise<Result<Accepted>> => {
  const runId = newId("run");
  const taskId = newId("task");
  const contextId = input.contextId ?? newId("ctx");
  const at = new Date();
  const dedupeKey = dedupeKeyOf(input);
  const hash = contentHash(input.message);
  const audit = auditRow({
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
  const message = { ...input.message, taskId, contextId };
  const durable = input.durable ?? "at once";
  const offer = input.spendIsLimited ? undefined : deps.offers?.find(input.orgId);
  const channel = offer && deps.offers?.channelOf(offer);
  const isQuiet = durable === "later" && deps.calls !== undefined && deps.calls.total() <= QUIET_CALLS;
  const announced = offer !== undefined && channel === undefined && isQuiet;
  const assigned = offer && assignmentOf(offer, input, { runId, taskId, contextId, at, message, announced });
  // What the commit tells costs no statement of its own. But nobody else's NOTIFY is committed before this one, so it must not
  // wait for the disk.
  const notify = assigned && durable === "later" ? channel : undefined;
  const row = {
    message_id: newId("msg"),
    run_id: runId,
    task_id: taskId,
    content: message,
    hash,
    dedupe_key: dedupeKey,
    principal: input.principal,
    context_id: contextId,
    api_key_id: input.apiKeyId,
    user_id: input.userId,
    agent: input.agent,
    repository_id: input.repositoryId,
    commit: input.commit,
    priority: input.priority,
    limits: input.limits,
    traceparent: input.traceparent ?? null,
    status: { state: "submitted", timestamp: at.toISOString() },
    audit,
    holder: assigned?.holder ?? null,
    lease_ms: assigned?.offer.leaseMs ?? null,
    deadline: assigned?.deadline ?? null,
    ...(notify !== undefined && { notify, told: assigned?.text }),
  };
  if (assigned && announced) deps.offers?.assign(assigned.offer, assigned.text);
  // Where this fails, nobody knows whether the run is on record; whoever was told of it will see.
  const created = await deps.db.together(input.orgId, acceptance, { row, durable });
  if (!created && assigned && announced) deps.offers?.withdraw(assigned.offer, runId);
  if (!created && dedupeKey !== null) return findDuplicate(deps.db, { input, dedupeKey, hash });

  if (assigned === undefined) {
    const wake = wakeUpOf({ orgId: input.orgId, runId, wake: 1, priority: input.priority });
    deps.queue.add(wake).catch((error: unknown) => {
      deps.onEnqueueFailed(error instanceof Error ? error : new Error(String(error)), runId);
    });
  } else if (announced) deps.offers?.onRecord(runId);
  else if (notify === undefined) deps.offers?.assign(assigned.offer, assigned.text);
  return ok({ runId, taskId, contextId, created: true, at });
};

/** With more calls under way, processors have enough to do, and a run in two messages costs more than it spares. */
const QUIET_CALLS = 2;

type Acceptance = {
  readonly row: { readonly task_id: string; readonly dedupe_key: string | null };
  readonly durable: "at once" | "later";
};

/** Gives whether the message is new. Equal messages within one statement are told apart like any others. */
const acceptance: SharedWork<Acceptance, boolean> = {
  maxItems: 32,
  statement: (orgId, items) => ({
    name: "accept_runs",
    text: ACCEPT,
    values: [orgId, toJsonb(items.map(({ row }) => row))],
  }),
  results: (rows, items) => {
    const fresh = new Set(rows.map((row) => row.task_id));
    return items.map(({ row }) => fresh.has(row.task_id));
  },
  durable: ({ durable }) => durable,
  order: ({ row }) => row.dedupe_key ?? row.task_id,
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
  createHash("sha256").update(canonicalJson(content)).digest("base64url");
