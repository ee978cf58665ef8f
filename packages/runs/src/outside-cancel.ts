import { recordAudit } from "@shaman/audit";
import type { Db } from "@shaman/db";
import type { Json } from "@shaman/kernel";
import { z } from "zod";
import { parsedJson } from "./json-schema.ts";

/** A call of an outside agent that was open when its task ended early, for a worker to cancel on the other side. */
export type OutsideCancel = {
  readonly orgId: string;
  readonly runId: string;
  readonly taskId: string;
  readonly position: number;
  readonly agent: string;
  /** False where the call ended after all: then there is nothing to cancel. */
  readonly isOpen: boolean;
  /** Of the call's step: whom it called, and what it knows of the task there. */
  readonly input: Json;
  readonly output: Json;
  /** The last lease on the run. */
  readonly leaseEpoch: number;
  /** How often the agent was asked, this time included. */
  readonly attempts: number;
};

/** What came of it, with the agent's name for the audit row. */
export type OutsideCancelEnd = {
  readonly name: string;
  readonly server: string;
  readonly result: "ok" | "failed";
  /** `canceled`, `over`, or the code of what went wrong. */
  readonly outcome: string;
  readonly remoteTaskId?: string;
};

const BATCH = 20;
/** The next try, unless this one concludes: 30 s, 1, 2, 4 minutes. */
const FIRST_RETRY_SECONDS = 30;

const DUE = `SELECT DISTINCT org_id FROM outside_cancel WHERE due_at <= now() LIMIT ${BATCH}`;

// Of two workers that look at once the second finds the row locked, or due later.
// Planned anew each time: a plan for small tables would begin at all steps of the organization.
const TAKE = `
WITH due AS MATERIALIZED (
  SELECT task_id, position FROM outside_cancel WHERE org_id = $1 AND due_at <= now()
  ORDER BY due_at LIMIT ${BATCH} FOR UPDATE SKIP LOCKED
)
UPDATE outside_cancel c SET attempts = c.attempts + 1,
  due_at = now() + ${FIRST_RETRY_SECONDS} * power(2, least(c.attempts, 8)) * interval '1 second'
FROM due, step s, task t
WHERE c.org_id = $1 AND c.task_id = due.task_id AND c.position = due.position
  AND s.org_id = $1 AND s.task_id = due.task_id AND s.position = due.position AND t.org_id = $1 AND t.id = due.task_id
RETURNING c.run_id AS "runId", c.task_id AS "taskId", c.position, c.attempts, t.agent, s.state = 'started' AS "isOpen",
  s.input, s.output, (SELECT r.lease_epoch FROM run r WHERE r.org_id = $1 AND r.id = c.run_id) AS "leaseEpoch"`;

const taken = z.object({
  runId: z.string(),
  taskId: z.string(),
  position: z.int(),
  attempts: z.int(),
  agent: z.string(),
  isOpen: z.boolean(),
  input: parsedJson,
  output: parsedJson,
  leaseEpoch: z.int(),
});

/**
 * Takes calls whose task at an outside agent is to be canceled, a few of each organization. Each comes again later, unless
 * `endOutsideCancel` is told what came of it.
 */
export const takeOutsideCancels = async (db: Db): Promise<readonly OutsideCancel[]> => {
  const { rows } = await db.unscoped((tx) => tx.query<{ org_id: string }>({ name: "outside_cancels_due", text: DUE }));
  const found = await Promise.all(
    rows.map(async ({ org_id: orgId }) => {
      const [due] = await db.batch(orgId, [{ text: TAKE, values: [orgId] }]);
      return (due?.rows ?? []).map((row) => ({ orgId, ...taken.parse(row) }));
    }),
  );
  return found.flat();
};

/** Forgets the call, with an audit row of what came of it. */
export const endOutsideCancel = (db: Db, call: OutsideCancel, end: OutsideCancelEnd | undefined): Promise<void> =>
  db.withOrg(call.orgId, async (tx) => {
    const { orgId, runId, taskId, position, agent, attempts } = call;
    const { rowCount } = await tx.query({
      text: "DELETE FROM outside_cancel WHERE org_id = $1 AND task_id = $2 AND position = $3",
      values: [orgId, taskId, position],
    });
    if (rowCount === 0 || end === undefined) return;
    const { name, server, result, outcome, remoteTaskId } = end;
    await recordAudit(tx, {
      orgId,
      actor: "system:worker",
      action: "agent:cancel",
      resource: `/externalAgents/${name}/`,
      result,
      agent,
      runId,
      taskId,
      server: "worker",
      details: { server, outcome, attempts, ...(remoteTaskId !== undefined && { remoteTaskId }) },
    });
  });
