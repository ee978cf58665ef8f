import { auditValues, AUDIT_COLUMNS, type AuditEntry } from "@shaman/audit";
import { toJsonb, type Db } from "@shaman/db";
import { newId, type JsonObject } from "@shaman/kernel";
import type { RunEvent } from "./events.ts";
import type { RunState, TaskState } from "./states.ts";
import type { StepRecord } from "./step.ts";

/** What becomes of the run with this batch; absent, it goes on under the same lease. */
export type RunOutcome =
  | {
      readonly kind: "finished";
      readonly state: "completed" | "failed" | "canceled" | "rejected";
      readonly error?: JsonObject;
    }
  /** Waits for a person: no lease, no deadline running. */
  | { readonly kind: "suspended"; readonly on: "input" | "approval" }
  /** Goes on later: a new wake, at that time. `counts` says whether it was an attempt of the agent's own. */
  | { readonly kind: "parked"; readonly retryAt: Date; readonly counts: "attempt" | "claim" | "nothing" };

export type ArtifactRecord = {
  readonly taskId: string;
  readonly artifactId: string;
  readonly name?: string;
  readonly description?: string;
  readonly parts: readonly JsonObject[];
  readonly metadata?: JsonObject;
};

/** Everything one commit of the lease holder may contain. */
export type Batch = {
  readonly events: readonly (RunEvent & { readonly taskId: string })[];
  readonly tasks: readonly { readonly taskId: string; readonly state: TaskState; readonly message?: JsonObject }[];
  readonly steps: readonly (StepRecord & { readonly taskId: string; readonly agent: string })[];
  readonly artifacts: readonly ArtifactRecord[];
  readonly agentMessages: readonly { readonly taskId: string; readonly message: JsonObject }[];
  readonly appliedCommands: readonly string[];
  readonly audit: readonly AuditEntry[];
  readonly outcome?: RunOutcome;
};

export type Lease = {
  readonly orgId: string;
  readonly runId: string;
  readonly epoch: number;
  readonly holder: string;
  readonly apiKeyId: string | null;
};

// Everything hangs on the first part: no live lease of this epoch, no row, nothing written.
const RECORD = `
WITH fence AS (
  UPDATE run SET last_seq = last_seq + $4,
    state = coalesce($5, state),
    suspended_on = $6,
    error = coalesce($7::jsonb, error),
    barren_claims = CASE WHEN $8 THEN 0 ELSE greatest(barren_claims - $9, 0) END,
    attempts = attempts + $10,
    steps = steps + $11, input_tokens = input_tokens + $12, output_tokens = output_tokens + $13,
    cost_usd = cost_usd + $14::numeric, cost_known = cost_known AND $15,
    lease_until = CASE WHEN $16 THEN NULL ELSE lease_until END,
    worker = CASE WHEN $16 THEN NULL ELSE worker END,
    time_left_ms = CASE WHEN $6::text IS NULL THEN NULL
      ELSE greatest(extract(epoch FROM deadline - now()) * 1000, 1000)::bigint END,
    wake = CASE WHEN $17::timestamptz IS NULL THEN wake ELSE wake + 1 END,
    wake_at = $17, enqueued_at = CASE WHEN $17::timestamptz IS NULL THEN enqueued_at ELSE $17 END,
    finished_at = CASE WHEN $18 THEN now() ELSE finished_at END
  WHERE org_id = $1 AND id = $2 AND lease_epoch = $3 AND worker = $29 AND lease_until > now()
  RETURNING last_seq, wake, priority
), new_events AS (
  INSERT INTO run_event (org_id, run_id, seq, task_id, type, payload, lease_epoch)
  SELECT $1, $2, fence.last_seq - $4 + e.ord, e.task_id, e.type, e.payload, $3
  FROM fence, jsonb_to_recordset($19::jsonb) AS e (ord integer, task_id text, type text, payload jsonb)
), new_steps AS (
  INSERT INTO step (org_id, id, run_id, task_id, position, kind, name, input_hash, state, input, output, lease_epoch, finished_at)
  SELECT $1, s.id, $2, s.task_id, s.position, s.kind, s.name, s.input_hash, s.state, s.input, s.output, $3,
    CASE WHEN s.state = 'started' THEN NULL ELSE now() END
  FROM fence, jsonb_to_recordset($20::jsonb) AS s (id text, task_id text, position integer, kind text, name text,
    input_hash text, state text, input jsonb, output jsonb)
  ON CONFLICT (org_id, task_id, position) DO UPDATE
    SET state = excluded.state, output = excluded.output, lease_epoch = excluded.lease_epoch, finished_at = excluded.finished_at
    WHERE step.state = 'started'
), new_usage AS (
  INSERT INTO usage (org_id, step_id, run_id, task_id, agent, api_key_id, model, input_tokens, cached_input_tokens,
    output_tokens, cost_usd)
  SELECT $1, u.step_id, $2, u.task_id, u.agent, $21, u.model, u.input_tokens, u.cached_input_tokens, u.output_tokens, u.cost_usd
  FROM fence, jsonb_to_recordset($22::jsonb) AS u (step_id text, task_id text, agent text, model text, input_tokens integer,
    cached_input_tokens integer, output_tokens integer, cost_usd numeric)
), new_artifacts AS (
  INSERT INTO artifact (org_id, task_id, id, run_id, position, name, description, parts, metadata, complete, bytes)
  SELECT $1, a.task_id, a.id, $2, fence.last_seq, a.name, a.description, a.parts, a.metadata, true, octet_length(a.parts::text)
  FROM fence, jsonb_to_recordset($23::jsonb) AS a (task_id text, id text, name text, description text, parts jsonb, metadata jsonb)
  ON CONFLICT (org_id, task_id, id) DO UPDATE
    SET parts = excluded.parts, name = excluded.name, description = excluded.description, metadata = excluded.metadata,
      bytes = excluded.bytes
), task_states AS (
  UPDATE task SET state = $24::jsonb -> task.id ->> 'state', status_message = $24::jsonb -> task.id -> 'message', status_at = now()
  FROM fence
  WHERE task.org_id = $1 AND task.id = ANY($28) AND task.state NOT IN ('completed', 'failed', 'canceled', 'rejected')
), agent_messages AS (
  INSERT INTO message (org_id, id, run_id, task_id, position, role, content)
  SELECT $1, m.id, $2, m.task_id,
    (SELECT coalesce(max(position), 0) + 1 FROM message WHERE org_id = $1 AND task_id = m.task_id), 'agent', m.content
  FROM fence, jsonb_to_recordset($25::jsonb) AS m (id text, task_id text, content jsonb)
), commands AS (
  UPDATE task_command SET applied_at = now() FROM fence
  WHERE task_command.org_id = $1 AND task_command.run_id = $2 AND task_command.id = ANY($26)
), acts AS (
  INSERT INTO audit_log (${AUDIT_COLUMNS.join(", ")})
  SELECT ${AUDIT_COLUMNS.map((column) => `a.${column}`).join(", ")}
  FROM fence, jsonb_to_recordset($27::jsonb) AS a (org_id text, actor text, action text, resource text, result text, agent text,
    tool text, run_id text, task_id text, trace_id text, user_id text, server text, protocol text, duration_ms integer, ip text,
    details jsonb)
)
SELECT last_seq, wake, priority FROM fence`;

export type Recorded = { readonly lastSeq: number; readonly wake: number; readonly priority: number };

/**
 * Commits what happened in a run, in one transaction, under the lease. Gives nothing, having changed nothing, when the
 * lease is no longer ours: the caller must then stop at once.
 */
export const recordBatch = async (db: Db, lease: Lease, batch: Batch): Promise<Recorded | undefined> => {
  const [recorded] = await db.batch(lease.orgId, [
    { name: "record_batch", text: RECORD, values: valuesOf(lease, batch) },
  ]);
  const row = recorded?.rows[0];
  return row === undefined ? undefined : { lastSeq: row.last_seq, wake: row.wake, priority: row.priority };
};

const EMPTY = "[]";
const list = (rows: readonly unknown[]): string => (rows.length === 0 ? EMPTY : toJsonb(rows));

const valuesOf = (lease: Lease, batch: Batch): readonly unknown[] => {
  const steps = batch.steps.map((step) => ({ ...step, id: newId("step") }));
  const finished = steps.filter((step) => step.state !== "started");
  const usage = steps.flatMap((step) => (step.usage === undefined ? [] : [{ ...step.usage, step }]));
  const { outcome } = batch;
  return [
    lease.orgId,
    lease.runId,
    lease.epoch,
    batch.events.length,
    runStateOf(outcome),
    outcome?.kind === "suspended" ? outcome.on : null,
    outcome?.kind === "finished" && outcome.error !== undefined ? toJsonb(outcome.error) : null,
    finished.length > 0 || outcome?.kind === "suspended",
    outcome?.kind === "parked" && outcome.counts === "nothing" ? 1 : 0,
    outcome?.kind === "parked" && outcome.counts === "attempt" ? 1 : 0,
    finished.length,
    usage.reduce((sum, one) => sum + one.inputTokens, 0),
    usage.reduce((sum, one) => sum + one.outputTokens, 0),
    usage.reduce((sum, one) => sum + (one.costUsd ?? 0), 0).toFixed(8),
    usage.every((one) => one.costUsd !== null),
    outcome !== undefined,
    outcome?.kind === "parked" ? outcome.retryAt : null,
    outcome?.kind === "finished",
    list(
      batch.events.map((event, i) => ({ ord: i + 1, task_id: event.taskId, type: event.type, payload: event.payload })),
    ),
    list(
      steps.map((step) => ({
        id: step.id,
        task_id: step.taskId,
        position: step.position,
        kind: step.kind,
        name: step.name,
        input_hash: step.inputHash,
        state: step.state,
        input: step.input,
        output: step.output,
      })),
    ),
    lease.apiKeyId,
    list(
      usage.map((one) => ({
        step_id: one.step.id,
        task_id: one.step.taskId,
        agent: one.step.agent,
        model: one.model,
        input_tokens: one.inputTokens,
        cached_input_tokens: one.cachedInputTokens,
        output_tokens: one.outputTokens,
        cost_usd: one.costUsd,
      })),
    ),
    list(
      batch.artifacts.map((artifact) => ({
        task_id: artifact.taskId,
        id: artifact.artifactId,
        name: artifact.name,
        description: artifact.description,
        parts: artifact.parts,
        metadata: artifact.metadata,
      })),
    ),
    toJsonb(Object.fromEntries(batch.tasks.map(({ taskId, state, message }) => [taskId, { state, message }]))),
    list(batch.agentMessages.map((one) => ({ id: newId("msg"), task_id: one.taskId, content: one.message }))),
    [...batch.appliedCommands],
    list(batch.audit.map((entry) => auditRow(entry))),
    batch.tasks.map((task) => task.taskId),
    lease.holder,
  ];
};

const auditRow = (entry: AuditEntry): Record<string, unknown> => {
  const values = auditValues(entry);
  const row = Object.fromEntries(AUDIT_COLUMNS.map((column, i) => [column, values[i]]));
  return { ...row, details: entry.details ?? null };
};

const runStateOf = (outcome: RunOutcome | undefined): RunState | null => {
  switch (outcome?.kind) {
    case undefined:
      return null;
    case "finished":
      return outcome.state;
    case "suspended":
      return "suspended";
    case "parked":
      return "submitted";
  }
};
