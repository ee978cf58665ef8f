import { AUDIT_COLUMNS, auditRecord, auditRow } from "@shaman/audit";
import { toJsonb, type Statement } from "@shaman/db";
import { newId } from "@shaman/kernel";
import { FEW } from "./few.ts";
import type { Batch, FailedCallRecord, Lease, RunOutcome } from "./batch.ts";
import { isTerminal, type RunState } from "./states.ts";
import type { StepUsage } from "./step.ts";

type StepRow = Batch["steps"][number] & { readonly id: string };
type FailedCallRow = FailedCallRecord & { readonly id: string };

/** What one run has to commit. */
export type RecordItem = {
  readonly lease: Lease;
  readonly batch: Omit<Batch, "steps" | "failedCalls"> & {
    readonly steps: readonly StepRow[];
    readonly failedCalls: readonly FailedCallRow[];
  };
};

type JsonRow = Readonly<Record<string, unknown>>;

/** One table's share: the rows that an item has for it, and the statement that takes all of them as `rows`. */
type Part = {
  readonly name: string;
  readonly rowsOf: (item: RecordItem) => readonly JsonRow[];
  readonly columns: string;
  /** `rows` stands for a FROM with the rows `r` and the `fence` that let each of them through. */
  readonly sql: (rows: string) => string;
};

// Everything hangs on this: no live lease of this epoch and holder, no row, nothing written for that run.
const FENCE = `
fence AS (
  UPDATE run SET last_seq = last_seq + i.events,
    state = coalesce(i.state, run.state),
    suspended_on = i.suspended_on,
    waits_for = i.waits_for,
    reserved_usd = CASE WHEN i.over THEN 0 ELSE greatest(run.reserved_usd - i.cost_usd, 0) END,
    error = coalesce(i.error, run.error),
    barren_claims = CASE WHEN i.fruitful THEN 0 ELSE greatest(barren_claims - i.forgiven, 0) END,
    attempts = run.attempts + i.attempts,
    steps = run.steps + i.steps,
    input_tokens = run.input_tokens + i.input_tokens, output_tokens = run.output_tokens + i.output_tokens,
    cost_usd = run.cost_usd + i.cost_usd, cost_known = run.cost_known AND i.cost_known,
    lease_until = CASE WHEN i.over THEN NULL ELSE lease_until END,
    worker = CASE WHEN i.over THEN NULL ELSE worker END,
    time_left_ms = CASE WHEN i.suspended_on IS NULL THEN NULL
      ELSE greatest(extract(epoch FROM deadline - now()) * 1000, 1000)::bigint END,
    wake = CASE WHEN i.retry_at IS NULL THEN wake ELSE wake + 1 END,
    wake_at = i.retry_at, enqueued_at = coalesce(i.retry_at, enqueued_at),
    finished_at = CASE WHEN i.finished THEN now() ELSE finished_at END,
    ended = CASE WHEN i.finished THEN i.state END
  FROM jsonb_to_recordset($2::jsonb) AS i (org_id text, run_id text, few integer, epoch integer, holder text, events integer, state text,
    suspended_on text, waits_for jsonb, error jsonb, fruitful boolean, forgiven integer, attempts integer, steps integer, input_tokens bigint,
    output_tokens bigint, cost_usd numeric, cost_known boolean, over boolean, retry_at timestamptz, finished boolean)
  WHERE run.org_id = i.org_id AND id = i.run_id AND i.few = 1 AND lease_epoch = i.epoch AND worker = i.holder AND lease_until > now()
  RETURNING id, last_seq, last_seq - i.events AS seq_before, lease_epoch, wake, priority, now() AS at
)`;

const fenceRow = ({ lease, batch }: RecordItem): JsonRow => {
  const { outcome, steps } = batch;
  const finished = steps.filter((step) => step.state !== "started").length;
  const usage = [...steps, ...batch.failedCalls].flatMap((one) => (one.usage === undefined ? [] : [one.usage]));
  return {
    org_id: lease.orgId,
    run_id: lease.runId,
    ...FEW,
    epoch: lease.epoch,
    holder: lease.holder,
    events: batch.events.length,
    state: runStateOf(outcome),
    suspended_on: outcome?.kind === "suspended" ? outcome.on : null,
    waits_for: outcome?.kind === "suspended" ? outcome.waitsFor : undefined,
    error: outcome?.kind === "finished" ? outcome.error : undefined,
    fruitful: finished > 0 || outcome?.kind === "suspended",
    forgiven: outcome?.kind === "parked" && outcome.counts === "nothing" ? 1 : 0,
    attempts: outcome?.kind === "parked" && outcome.counts === "attempt" ? 1 : 0,
    steps: finished,
    input_tokens: usage.reduce((sum, one) => sum + one.inputTokens, 0),
    output_tokens: usage.reduce((sum, one) => sum + one.outputTokens, 0),
    cost_usd: usage.reduce((sum, one) => sum + (one.costUsd ?? 0), 0).toFixed(8),
    cost_known: usage.every((one) => one.costUsd !== null),
    over: outcome !== undefined,
    retry_at: outcome?.kind === "parked" ? outcome.retryAt : null,
    finished: outcome?.kind === "finished",
  };
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

const EVENTS: Part = {
  name: "events",
  columns: "ord integer, task_id text, type text, payload jsonb",
  rowsOf: ({ batch }) =>
    batch.events.map(({ taskId, type, payload }, i) => ({ ord: i + 1, task_id: taskId, type, payload })),
  sql: (rows) => `
  INSERT INTO run_event (org_id, run_id, seq, task_id, type, payload, lease_epoch)
  SELECT $1, fence.id, fence.seq_before + r.ord, r.task_id, r.type, r.payload, fence.lease_epoch ${rows}`,
};

const STEPS: Part = {
  name: "steps",
  columns: `id text, task_id text, position integer, kind text, name text, input_hash text, state text, input jsonb,
    output jsonb, server text, duration_ms integer`,
  rowsOf: ({ batch }) =>
    batch.steps.map((step) => ({
      id: step.id,
      task_id: step.taskId,
      position: step.position,
      kind: step.kind,
      name: step.name,
      input_hash: step.inputHash,
      state: step.state,
      input: step.input,
      output: step.output,
      server: step.server,
      duration_ms: step.durationMs,
    })),
  sql: (rows) => `
  INSERT INTO step (org_id, id, run_id, task_id, position, kind, name, input_hash, state, input, output, server,
    duration_ms, lease_epoch, finished_at)
  SELECT $1, r.id, fence.id, r.task_id, r.position, r.kind, r.name, r.input_hash, r.state, r.input, r.output, r.server,
    r.duration_ms, fence.lease_epoch, CASE WHEN r.state = 'started' THEN NULL ELSE now() END ${rows}
  ON CONFLICT (org_id, task_id, position) DO UPDATE
    SET state = excluded.state, output = excluded.output, server = excluded.server, duration_ms = excluded.duration_ms,
      lease_epoch = excluded.lease_epoch, finished_at = excluded.finished_at
    WHERE step.state = 'started'`,
};

const USAGE: Part = {
  name: "usage",
  columns: `step_id text, task_id text, agent text, failed_position integer, api_key_id text, model text, input_tokens integer,
    cached_input_tokens integer, output_tokens integer, cost_usd numeric`,
  rowsOf: ({ lease, batch }) => [
    ...batch.steps.flatMap((step) => (step.usage === undefined ? [] : [usageRow(lease, step, step.usage)])),
    ...batch.failedCalls.map((call) => ({ ...usageRow(lease, call, call.usage), failed_position: call.position })),
  ],
  sql: (rows) => `
  INSERT INTO usage (org_id, step_id, run_id, task_id, agent, failed_position, api_key_id, model, input_tokens,
    cached_input_tokens, output_tokens, cost_usd)
  SELECT $1, r.step_id, fence.id, r.task_id, r.agent, r.failed_position, r.api_key_id, r.model, r.input_tokens,
    r.cached_input_tokens, r.output_tokens, r.cost_usd ${rows}`,
};

const usageRow = (
  lease: Lease,
  of: { readonly id: string; readonly taskId: string; readonly agent: string },
  usage: StepUsage,
): JsonRow => ({
  step_id: of.id,
  task_id: of.taskId,
  agent: of.agent,
  api_key_id: lease.apiKeyId,
  model: usage.model,
  input_tokens: usage.inputTokens,
  cached_input_tokens: usage.cachedInputTokens,
  output_tokens: usage.outputTokens,
  cost_usd: usage.costUsd,
});

const ARTIFACTS: Part = {
  name: "artifacts",
  columns: "id text, task_id text, ord integer, name text, description text, parts jsonb, metadata jsonb, bytes bigint",
  rowsOf: ({ batch }) =>
    batch.artifacts.map(({ artifactId, taskId, name, description, parts, metadata, bytes }) => ({
      id: artifactId,
      task_id: taskId,
      ord: lastEventOf(batch, { taskId, artifactId }),
      name,
      description,
      parts,
      metadata,
      bytes,
    })),
  sql: (rows) => `
  INSERT INTO artifact (org_id, task_id, id, run_id, position, name, description, parts, metadata, complete, bytes)
  SELECT $1, r.task_id, r.id, fence.id, fence.seq_before + r.ord, r.name, r.description, r.parts, r.metadata, true,
    coalesce(r.bytes, octet_length(r.parts::text)) ${rows}
  ON CONFLICT (org_id, task_id, id) DO UPDATE
    SET parts = excluded.parts, name = excluded.name, description = excluded.description, metadata = excluded.metadata,
      bytes = excluded.bytes`,
};

/** Where in the batch the artifact was last told of, by which a task's artifacts are ordered. */
const lastEventOf = (
  { events }: RecordItem["batch"],
  { taskId, artifactId }: { readonly taskId: string; readonly artifactId: string },
): number =>
  1 +
  events.findLastIndex(
    (event) => event.taskId === taskId && event.type === "task.artifact" && event.payload.artifactId === artifactId,
  );

const TASKS: Part = {
  name: "tasks",
  columns: "id text, state text, message jsonb",
  rowsOf: ({ batch }) => batch.tasks.map(({ taskId, state, message }) => ({ id: taskId, state, message })),
  sql: (rows) => `
  UPDATE task SET state = r.state, status_message = r.message, status_at = now() ${rows}
    AND task.org_id = r.org_id AND task.id = r.id AND task.state NOT IN ('completed', 'failed', 'canceled', 'rejected')`,
};

/** What a task that ends early had under way outside is not wanted any more; whether the call is still open is seen later. */
const OUTSIDE_CANCELS: Part = {
  name: "outside_cancels",
  columns: "task_id text",
  rowsOf: ({ batch }) =>
    batch.tasks.flatMap(({ taskId, state }) =>
      isTerminal(state) && state !== "completed" ? [{ task_id: taskId }] : [],
    ),
  sql: (rows) => `
  INSERT INTO outside_cancel (org_id, task_id, position, run_id)
  SELECT $1, s.task_id, s.position, fence.id ${rows.replace("WHERE", ", step s WHERE")}
    AND s.org_id = r.org_id AND s.task_id = r.task_id AND s.kind = 'call' AND s.state = 'started' AND s.child_task_id IS NULL
  ON CONFLICT (org_id, task_id, position) DO NOTHING`,
};

const MESSAGES: Part = {
  name: "messages",
  columns: "id text, task_id text, ord integer, role text, content jsonb",
  rowsOf: ({ batch }) =>
    [
      ...batch.agentMessages.map((one) => ({ ...one, role: "agent" })),
      ...(batch.userMessages ?? []).map((one) => ({ ...one, role: "user" })),
    ].map(({ taskId, role, message }, i) => ({
      id: newId("msg"),
      task_id: taskId,
      ord: i + 1,
      role,
      content: message,
    })),
  sql: (rows) => `
  INSERT INTO message (org_id, id, run_id, task_id, position, role, content)
  SELECT $1, r.id, fence.id, r.task_id,
    (SELECT coalesce(max(position), 0) + r.ord FROM message WHERE org_id = $1 AND task_id = r.task_id), r.role, r.content ${rows}`,
};

const DATA: Part = {
  name: "data",
  columns: "task_id text, agent text, position integer, name text, value jsonb",
  rowsOf: ({ batch }) => (batch.data ?? []).map(({ taskId, ...one }) => ({ ...one, task_id: taskId })),
  sql: (rows) => `
  INSERT INTO run_data (org_id, run_id, name, value, task_id, agent, position)
  SELECT $1, fence.id, r.name, r.value, r.task_id, r.agent, r.position ${rows}
  ON CONFLICT (org_id, run_id, name) DO NOTHING`,
};

const COMMANDS: Part = {
  name: "commands",
  columns: "id text",
  rowsOf: ({ batch }) => batch.appliedCommands.map((id) => ({ id })),
  sql: (rows) => `
  UPDATE task_command SET applied_at = now() ${rows}
    AND task_command.org_id = r.org_id AND task_command.id = r.id AND task_command.run_id = r.run_id`,
};

const AUDIT: Part = {
  name: "audit",
  columns: "entry jsonb",
  rowsOf: ({ batch }) => batch.audit.map((entry) => ({ entry: auditRow(entry) })),
  sql: (rows) => `
  INSERT INTO audit_log (${AUDIT_COLUMNS.join(", ")})
  SELECT ${AUDIT_COLUMNS.map((column) => `a.${column}`).join(", ")} ${rows.replace("WHERE", `, ${auditRecord("r.entry")} WHERE`)}`,
};

const MEDIA: Part = {
  name: "media",
  columns: "task_id text, sha256 text, base64 text",
  rowsOf: ({ batch }) =>
    batch.steps.flatMap(({ taskId, media = [] }) => media.map((one) => ({ ...one, task_id: taskId }))),
  sql: (rows) => `
  INSERT INTO step_media (org_id, run_id, task_id, sha256, base64)
  SELECT $1, fence.id, r.task_id, r.sha256, r.base64 ${rows}
  ON CONFLICT (org_id, task_id, sha256) DO NOTHING`,
};

const PARTS: readonly Part[] = [
  EVENTS,
  STEPS,
  USAGE,
  ARTIFACTS,
  TASKS,
  MESSAGES,
  COMMANDS,
  AUDIT,
  DATA,
  MEDIA,
  OUTSIDE_CANCELS,
];

/** Texts made so far, by the parts they have: PostgreSQL pays for a part even where it has no rows. */
const texts = new Map<string, string>();

const textOf = (name: string, parts: readonly Part[]): string => {
  const known = texts.get(name);
  if (known !== undefined) return known;
  const writes = parts.map((part, i) => {
    const rows = `FROM fence, jsonb_to_recordset($${i + 3}::jsonb) AS r (org_id text, run_id text, few integer, ${part.columns})
  WHERE fence.id = r.run_id AND r.few = 1`;
    return `new_${part.name} AS (${part.sql(rows)}\n)`;
  });
  const text = `WITH ${[FENCE, ...writes].join(", ")}\nSELECT id, last_seq, wake, priority, at FROM fence WHERE $1::text IS NOT NULL`;
  texts.set(name, text);
  return text;
};

/** One statement that commits what several runs have to commit, each under its own lease. */
export const recordStatement = (orgId: string, items: readonly RecordItem[]): Statement => {
  const parts: Part[] = [];
  const values = [orgId, toJsonb(items.map(fenceRow))];
  let name = "record";
  for (const [i, part] of PARTS.entries()) {
    const rows = items.flatMap((item) =>
      part.rowsOf(item).map((row) => ({ ...row, org_id: orgId, run_id: item.lease.runId, ...FEW })),
    );
    if (rows.length === 0) continue;
    name += `_${i}`;
    parts.push(part);
    values.push(toJsonb(rows));
  }
  return { name, text: textOf(name, parts), values };
};
