import type { Db } from "@shaman/db";
import type { JsonObject } from "@shaman/kernel";
import { z } from "zod";
import { parsedJsonObject } from "./json-schema.ts";
import { taskState, type TaskState } from "./states.ts";

/** One task of a run's tree. */
export type TreeTask = {
  readonly taskId: string;
  readonly parentTaskId: string | null;
  readonly agent: string;
  readonly state: TaskState;
};

const treeTask = z.object({
  taskId: z.string(),
  parentTaskId: z.string().nullable(),
  agent: z.string(),
  state: taskState,
});

/** All tasks of a run, parents before their children. */
export const listTasks = async (
  db: Db,
  run: { readonly orgId: string; readonly runId: string },
): Promise<readonly TreeTask[]> => {
  const [found] = await db.batch(run.orgId, [
    {
      name: "list_tasks",
      text: `SELECT id AS "taskId", parent_task_id AS "parentTaskId", agent, state FROM task
        WHERE org_id = $1 AND run_id = $2 ORDER BY created_at, parent_task_id IS NOT NULL, id`,
      values: [run.orgId, run.runId],
    },
  ]);
  return (found?.rows ?? []).map((row) => treeTask.parse(row));
};

// Usage is found by its step: the steps of a run have an index, and their usage has their id. Calls that gave no step have
// an index of their own.
const CHILD = `
WITH RECURSIVE below AS (
  SELECT id FROM task WHERE org_id = $1 AND id = $3
  UNION ALL
  SELECT t.id FROM task t, below WHERE t.org_id = $1 AND t.run_id = $2 AND t.parent_task_id = below.id
), used AS (
  SELECT u.input_tokens, u.output_tokens, u.cost_usd FROM step s JOIN usage u ON u.org_id = s.org_id AND u.step_id = s.id
  WHERE s.org_id = $1 AND s.run_id = $2 AND s.task_id IN (SELECT id FROM below)
  UNION ALL
  SELECT u.input_tokens, u.output_tokens, u.cost_usd FROM usage u
  WHERE u.org_id = $1 AND u.run_id = $2 AND u.failed_position IS NOT NULL AND u.task_id IN (SELECT id FROM below)
), spent AS (
  SELECT coalesce(sum(input_tokens + output_tokens), 0)::float8 AS tokens, coalesce(sum(cost_usd), 0)::float8 AS cost FROM used
)
SELECT c.state, c.status_message AS "statusMessage", spent.tokens, spent.cost AS "costUsd"
FROM task c, spent WHERE c.org_id = $1 AND c.id = $3`;

const childRow = z.object({
  state: taskState,
  statusMessage: parsedJsonObject.nullable(),
  tokens: z.number(),
  costUsd: z.number(),
});

export type ChildTask = {
  readonly state: TaskState;
  readonly statusMessage: JsonObject | null;
  /** What it and everything below it has used up, as far as recorded. */
  readonly tokens: number;
  readonly costUsd: number;
};

/** How far the task of an earlier call has come, or nothing when there is no such task. */
export const findChildTask = async (
  db: Db,
  child: { readonly orgId: string; readonly runId: string; readonly taskId: string },
): Promise<ChildTask | undefined> => {
  const values = [child.orgId, child.runId, child.taskId];
  const [found] = await db.batch(child.orgId, [{ name: "find_child_task", text: CHILD, values }]);
  const row = found?.rows[0];
  return row === undefined ? undefined : childRow.parse(row);
};
