import { toJsonb, type Db } from "@shaman/db";
import { AppError, newId, type Json } from "@shaman/kernel";

/** A step that must be on record before it happens: a tool that is not safe to repeat, or a call of another agent. */
export type StepStart = {
  readonly orgId: string;
  readonly runId: string;
  readonly taskId: string;
  readonly position: number;
  readonly kind: "tool" | "call";
  readonly name: string;
  readonly inputHash: string;
  readonly input: Json;
  /** The lease under which the run is worked on; without it nothing may happen. */
  readonly leaseEpoch: number;
  readonly leaseHolder: string;
  /** Of a call: the task that the called agent gets. */
  readonly child?: { readonly taskId: string; readonly agent: string };
};

// The fence decides together with the unique position: of two who hold the same step for theirs, one gets a row.
const START = `
WITH fence AS (
  SELECT context_id, principal FROM run
  WHERE org_id = $1 AND id = $2 AND lease_epoch = $3 AND worker = $4 AND lease_until > now()
    AND EXISTS (SELECT FROM task t WHERE t.org_id = $1 AND t.id = $6
      AND t.state NOT IN ('completed', 'failed', 'canceled', 'rejected'))
), started AS (
  INSERT INTO step (org_id, id, run_id, task_id, position, kind, name, input_hash, state, input, child_task_id, lease_epoch)
  SELECT $1, $5, $2, $6, $7, $8, $9, $10, 'started', $11::jsonb, $12, $3 FROM fence
  ON CONFLICT (org_id, task_id, position) DO NOTHING
  RETURNING id
), child AS (
  INSERT INTO task (org_id, id, run_id, parent_task_id, context_id, principal, agent, state)
  SELECT $1, $12, $2, $6, fence.context_id, fence.principal, $13, 'submitted' FROM fence, started WHERE $12::text IS NOT NULL
)
SELECT id FROM started`;

/**
 * Commits that a step begins, with its child's task where it is a call, if and only if the run's lease is still the one
 * this attempt works under, and the task has not ended (guarantee 3). Throws `step_not_started` where it is not: then nothing may be done.
 */
export const startStep = async (db: Db, start: StepStart): Promise<void> => {
  const values = [
    start.orgId,
    start.runId,
    start.leaseEpoch,
    start.leaseHolder,
    newId("step"),
    start.taskId,
    start.position,
    start.kind,
    start.name,
    start.inputHash,
    toJsonb(start.input),
    start.child?.taskId ?? null,
    start.child?.agent ?? null,
  ];
  const [started] = await db.batch(start.orgId, [{ name: "start_step", text: START, values }]);
  if (started?.rowCount === 1) return;
  throw new AppError({
    code: "step_not_started",
    kind: "operational",
    message: `Step ${start.position} of ${start.taskId} was not begun: the run's lease is another's, its task has ended, or the step is on record already`,
  });
};
