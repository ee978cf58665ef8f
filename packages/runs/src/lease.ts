import { setTimeout } from "node:timers/promises";
import type { Db, Row, SharedWork } from "@shaman/db";
import { randomText, type JsonObject } from "@shaman/kernel";
import { z } from "zod";
import { FEW, inOrderOfLocks } from "./few.ts";
import { taskState, type TaskState } from "./states.ts";
import { waitsFor, type WaitsFor } from "./waits-for.ts";

/** A run under this worker's lease. `epoch` is the fencing token of everything written for it. */
export type LeasedRun = {
  readonly orgId: string;
  readonly runId: string;
  readonly rootTaskId: string;
  readonly contextId: string;
  readonly agent: string;
  readonly repositoryId: string;
  readonly commit: string;
  readonly principal: string;
  readonly apiKeyId: string | null;
  readonly userId: string | null;
  readonly traceparent: string | null;
  readonly epoch: number;
  /** Worker and claim: with the epoch it fences, since a claim that a crash of PostgreSQL undid gives its epoch again. */
  readonly holder: string;
  /** Whether its worker was told of it while it was being written: then it may not be on record yet. */
  readonly announced: boolean;
  readonly wake: number;
  readonly priority: number;
  readonly deadline: Date;
  readonly attempts: number;
  /** Claims in a row, this one included, without a newly finished step. */
  readonly barrenClaims: number;
  readonly limits: JsonObject;
  readonly used: { readonly steps: number; readonly tokens: number; readonly costUsd: number };
  readonly taskState: TaskState;
  /** What the run was suspended on, as long as nothing has been recorded since. */
  readonly waitsFor: WaitsFor | undefined;
  /** USD a month that all runs of the organization, and of the key, may cost; null where there is no such limit. */
  readonly spendLimits: { readonly organization: number | null; readonly key: number | null };
  /** The root task's messages of its caller, oldest first. */
  readonly messages: readonly JsonObject[];
  readonly commands: readonly OpenCommand[];
};

export type OpenCommand = {
  readonly id: string;
  readonly kind: "cancel" | "answer" | "approve" | "refuse" | "retry";
  readonly taskId: string;
  readonly payload: JsonObject;
  readonly actor: string;
};

// The time that a run may take begins with the first claim of which something is on record: the worker to which it was
// assigned may never have heard of it.
const CLAIM = `
UPDATE run SET lease_epoch = lease_epoch + 1, lease_until = now() + i.lease_ms * interval '1 millisecond', worker = i.holder,
  state = 'working', suspended_on = NULL, barren_claims = barren_claims + 1, started_at = coalesce(started_at, now()),
  deadline = CASE WHEN time_left_ms IS NOT NULL THEN now() + time_left_ms * interval '1 millisecond'
    ELSE coalesce(CASE WHEN last_seq > 1 THEN deadline END, now() + (limits->>'timeoutSeconds')::integer * interval '1 second') END,
  time_left_ms = NULL
FROM jsonb_to_recordset($2::jsonb) AS i (org_id text, run_id text, few integer, lease_ms integer, holder text)
WHERE run.org_id = i.org_id AND id = i.run_id AND i.few = 1 AND (lease_until IS NULL OR lease_until < now())
  AND CASE WHEN state IN ('submitted', 'working') AND (wake_at IS NULL OR wake_at <= now()) THEN true
    ELSE finished_at IS NULL AND EXISTS (
      SELECT 1 FROM task_command c WHERE c.org_id = $1 AND c.run_id = i.run_id AND c.applied_at IS NULL) END
RETURNING id, root_task_id, context_id, agent, repository_id, commit, principal, api_key_id, user_id, traceparent,
  lease_epoch, worker, wake, priority, deadline, attempts, barren_claims, limits, waits_for, steps, input_tokens + output_tokens AS tokens,
  cost_usd::float8 AS cost_usd,
  (SELECT t.state FROM task t WHERE t.org_id = $1 AND t.id = root_task_id) AS task_state,
  (SELECT o.settings->'spend'->'monthlyUsd' FROM organization o WHERE o.id = $1) AS organization_spend,
  (SELECT k.monthly_spend_usd::float8 FROM api_key k WHERE k.org_id = $1 AND k.id = api_key_id) AS key_spend,
  (SELECT json_agg(m.content ORDER BY m.position) FROM message m
    WHERE m.org_id = $1 AND m.task_id = root_task_id AND m.role = 'user') AS messages,
  (SELECT json_agg(json_build_object('id', c.id, 'kind', c.kind, 'taskId', c.task_id, 'payload', c.payload, 'actor', c.actor)
      ORDER BY c.created_at)
    FROM task_command c WHERE c.org_id = $1 AND c.run_id = run.id AND c.applied_at IS NULL) AS commands`;

type Claim = { readonly run_id: string; readonly lease_ms: number; readonly holder: string };

const claims: SharedWork<Claim, Row | undefined> = {
  maxItems: 32,
  statement: (orgId, items) => ({
    name: "claim_runs",
    text: CLAIM,
    values: [orgId, JSON.stringify(items.map((item) => ({ ...item, org_id: orgId, ...FEW })))],
  }),
  // A run can be among them twice: one of the two has it, the other has nothing.
  results: (rows, items) => {
    const byHolder = new Map(rows.map((row) => [row.worker, row]));
    return items.map(({ holder }) => byHolder.get(holder));
  },
  // Whatever is done under the lease is committed after it, so it need not reach the disk by itself.
  durable: () => "later",
  order: ({ run_id }) => run_id,
};

/**
 * Takes the run's lease in one statement, or gives nothing when somebody else holds it or there is nothing to do. The
 * lease must be renewed within `leaseMs`, and every write under it carries its epoch.
 */
export const claimRun = async (
  db: Db,
  input: { readonly orgId: string; readonly runId: string; readonly leaseMs: number; readonly worker: string },
): Promise<LeasedRun | undefined> => {
  const holder = `${input.worker}:${randomText(10)}`;
  const row = await db.together(input.orgId, claims, { run_id: input.runId, lease_ms: input.leaseMs, holder });
  return row === undefined ? undefined : toLeasedRun({ ...input, holder }, row);
};

const spendLimit = z.number().nullish().default(null);

const toLeasedRun = (
  input: { readonly orgId: string; readonly runId: string; readonly holder: string },
  row: Row,
): LeasedRun => ({
  orgId: input.orgId,
  runId: input.runId,
  rootTaskId: row.root_task_id,
  contextId: row.context_id,
  agent: row.agent,
  repositoryId: row.repository_id,
  commit: row.commit,
  principal: row.principal,
  apiKeyId: row.api_key_id,
  userId: row.user_id,
  traceparent: row.traceparent,
  epoch: row.lease_epoch,
  holder: input.holder,
  announced: false,
  wake: row.wake,
  priority: row.priority,
  deadline: row.deadline,
  attempts: row.attempts,
  barrenClaims: row.barren_claims,
  limits: row.limits,
  used: { steps: row.steps, tokens: row.tokens, costUsd: row.cost_usd },
  taskState: taskState.parse(row.task_state),
  waitsFor: waitsFor.safeParse(row.waits_for).data,
  spendLimits: { organization: spendLimit.parse(row.organization_spend), key: spendLimit.parse(row.key_spend) },
  messages: row.messages ?? [],
  commands: row.commands ?? [],
});

const RENEW = `
UPDATE run SET lease_until = now() + $2 * interval '1 millisecond'
FROM jsonb_to_recordset($3::jsonb) AS i (org_id text, run_id text, few integer, epoch integer)
WHERE run.org_id = i.org_id AND id = i.run_id AND i.few = 1 AND lease_epoch = i.epoch
  AND starts_with(worker, $1 || ':') AND lease_until > now()
RETURNING id`;

/** Renews an organization's leases of this worker together; gives the runs whose lease is still ours. */
export const renewLeases = async (
  db: Pick<Db, "batch">,
  input: {
    readonly orgId: string;
    readonly worker: string;
    readonly leaseMs: number;
    readonly held: readonly { readonly runId: string; readonly epoch: number }[];
  },
): Promise<ReadonlySet<string>> => {
  const held = input.held.map(({ runId, epoch }) => ({ org_id: input.orgId, run_id: runId, epoch, ...FEW }));
  const [renewed] = await db.batch(input.orgId, [
    { name: "renew_leases", text: RENEW, values: [input.worker, input.leaseMs, JSON.stringify(inOrderOfLocks(held))] },
  ]);
  return new Set((renewed?.rows ?? []).map((row) => String(row.id)));
};

const RELEASE = `
UPDATE run SET lease_until = NULL, worker = NULL, state = 'submitted', barren_claims = 0, started_at = NULL, deadline = NULL
FROM jsonb_to_recordset($1::jsonb) AS i (org_id text, run_id text, few integer, holder text)
WHERE run.org_id = i.org_id AND id = i.run_id AND i.few = 1 AND lease_epoch = 1 AND worker = i.holder AND lease_until > now()
RETURNING id`;

const releases: SharedWork<Pick<LeasedRun, "runId" | "holder">, boolean> = {
  maxItems: 32,
  statement: (orgId, items) => {
    const rows = items.map(({ runId, holder }) => ({ org_id: orgId, run_id: runId, holder, ...FEW }));
    return { name: "release_runs", text: RELEASE, values: [JSON.stringify(rows)] };
  },
  results: (rows, items) => {
    const released = new Set(rows.map((row) => row.id));
    return items.map(({ runId }) => released.has(runId));
  },
  // Undone by a crash, it leaves a lease that runs out.
  durable: () => "later",
  order: ({ runId }) => runId,
};

/** How long, each time, for the intake of an announced run that is not on record. */
const INTAKE_PAUSES_MS = [20, 100, 500, 1_500];

/** Whether an assigned run is on record under its first lease. One that was announced may come on record within a moment. */
export const isOnRecord = async (db: Pick<Db, "batch">, { orgId, runId, holder }: LeasedRun): Promise<boolean> => {
  const text = "SELECT 1 FROM run WHERE org_id = $1 AND id = $2 AND lease_epoch = 1 AND worker = $3";
  for (const pauseMs of [...INTAKE_PAUSES_MS, undefined]) {
    const [found] = await db.batch(orgId, [{ name: "on_record", text, values: [orgId, runId, holder] }]);
    if (found?.rows.length === 1) return true;
    if (pauseMs !== undefined) await setTimeout(pauseMs);
  }
  return false;
};

/** Gives up the lease of an assigned run that was not begun, as if it had only been accepted. False when it is not ours. */
export const releaseRun = (db: Db, run: LeasedRun): Promise<boolean> => db.together(run.orgId, releases, run);
