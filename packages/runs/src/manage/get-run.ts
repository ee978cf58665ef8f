import { forbidden, type Principal } from "@shaman/access";
import type { Db } from "@shaman/db";
import { err, ok, userError, type AppError, type Json, type JsonObject, type Result } from "@shaman/kernel";
import type { ArtifactView } from "../artifacts.ts";
import { listTasks, type TreeTask } from "../task-tree.ts";
import { findTask } from "../task-view.ts";
import type { WaitsFor } from "../waits-for.ts";
import { RUN_COLUMNS, type RunView } from "./run-view.ts";

const MAX_PROBLEM_CHARS = 2_000;

/** One thing the run did. */
export type StepView = {
  readonly id: string;
  readonly taskId: string;
  /** From 1 within its task. */
  readonly position: number;
  readonly kind: "model" | "tool" | "call" | "input" | "approval";
  readonly name: string;
  readonly state: "started" | "done" | "failed" | "unknown";
  readonly model: string | null;
  readonly inputTokens: number | null;
  readonly outputTokens: number | null;
  readonly costUsd: number | null;
  /** Of a call: the task of the called agent. */
  readonly childTaskId: string | null;
  /** Of a tool: its MCP server. */
  readonly server: string | null;
  readonly durationMs: number | null;
  /** How a model's answer came about, where there is something to say: other models that were asked, the cache. */
  readonly notes: JsonObject | null;
  /** Images and documents that a tool gave to the model: what they were. */
  readonly media: readonly { readonly mediaType: string; readonly bytes: number; readonly sha256: string }[] | null;
  /** Of a step that failed: what the model was told of it, the first 2,000 characters. */
  readonly problem: string | null;
  /** Of an approval that was decided: `decision`, `by` whom, and the `reason` if one was given. */
  readonly decision: JsonObject | null;
  readonly startedAt: Date;
  readonly finishedAt: Date | null;
};

/** A model call that gave no step, and that its provider charges for all the same. */
export type FailedCallView = {
  readonly taskId: string;
  /** Of the step that it should have been. */
  readonly position: number;
  readonly model: string;
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** Null where the model's price is not known. */
  readonly costUsd: number | null;
  readonly at: Date;
};

/** What went wrong with the tools of a task, as its notices said: each once, however often attempts met it. */
export type ProblemView = {
  readonly taskId: string;
  /** Of the step and the tool; null where it concerns the task as a whole. */
  readonly position: number | null;
  readonly tool: string | null;
  readonly message: string;
};

/** What a suspended run waits for. */
export type WaitingView = WaitsFor & {
  readonly agent: string;
  /** Of an approval: the tool and the arguments that it is bound to. */
  readonly tool: string | null;
  readonly arguments: Json;
};

export type RunDetail = RunView & {
  /** The run's tree: the caller's task first, parents before children. */
  readonly tasks: readonly TreeTask[];
  readonly waiting: WaitingView | null;
  /** Of all tasks, in the order in which they began; the first 1,000. */
  readonly stepList: readonly StepView[];
  /** In the order in which they were recorded; the first 1,000. */
  readonly failedCalls: readonly FailedCallView[];
  /** In the order in which they were first told; the first 200. */
  readonly problems: readonly ProblemView[];
  /** A2A Messages of the caller and the agent, oldest first. */
  readonly messages: readonly JsonObject[];
  readonly artifacts: readonly ArtifactView[];
};

const READ = "run:read";
const MAX_STEPS = 1_000;
const MAX_PROBLEMS = 200;

export const runNotFound = (runId: string): AppError =>
  userError("run_not_found", `There is no run ${runId.slice(0, 64)} in this organization.`);

const WAITING = `
SELECT r.waits_for->>'kind' AS kind, s.task_id AS "taskId", s.position, r.waits_for->>'approvalId' AS "approvalId",
  (SELECT t.agent FROM task t WHERE t.org_id = $1 AND t.id = s.task_id) AS agent,
  CASE WHEN s.kind = 'approval' THEN s.name END AS tool, s.input->'arguments' AS arguments
FROM run r JOIN step s ON s.org_id = r.org_id AND s.task_id = r.waits_for->>'taskId'
  AND s.position = (r.waits_for->>'position')::integer
WHERE r.org_id = $1 AND r.id = $2 AND r.state = 'suspended'`;

// The texts of old runs are emptied.
const PROBLEMS = `
SELECT task_id AS "taskId", (payload->>'position')::integer AS position, payload->>'tool' AS tool, payload->>'message' AS message
FROM run_event WHERE org_id = $1 AND run_id = $2 AND type = 'notice' AND payload->>'kind' = 'problem' AND payload ? 'message'
GROUP BY 1, 2, 3, 4 ORDER BY min(seq) LIMIT ${MAX_PROBLEMS}`;

/** One run with its tree of tasks, their steps, messages and artifacts, by the run's or its task's id. Needs `run:read`. Errors: `forbidden`, `run_not_found`. */
export const getRun = async (
  deps: { readonly db: Db },
  principal: Principal,
  input: { readonly id: string },
): Promise<Result<RunDetail>> => {
  if (!principal.can(READ, "/runs/")) return err(forbidden(READ));
  const { orgId } = principal;
  const found = await deps.db.withOrg(orgId, async (tx) => {
    const { rows } = await tx.query<RunView>({
      text: `SELECT ${RUN_COLUMNS} FROM run r WHERE r.org_id = $1
        AND r.id = coalesce((SELECT t.run_id FROM task t WHERE t.org_id = $1 AND t.id = $2), $2)`,
      values: [orgId, input.id],
    });
    const run = rows[0];
    if (run === undefined) return undefined;
    const steps = await tx.query<StepView>({
      text: `SELECT s.id, s.task_id AS "taskId", s.position, s.kind, s.name, s.state, u.model,
          u.input_tokens AS "inputTokens", u.output_tokens AS "outputTokens", u.cost_usd::float8 AS "costUsd",
          s.child_task_id AS "childTaskId", s.server, s.duration_ms AS "durationMs",
          s.output -> 'notes' AS notes, s.output -> 'media' AS media,
          CASE WHEN s.state IN ('failed', 'unknown') THEN left(s.output ->> 'text', ${MAX_PROBLEM_CHARS}) END AS problem,
          CASE WHEN s.kind = 'approval' AND s.state = 'done' THEN s.output END AS decision,
          s.started_at AS "startedAt", s.finished_at AS "finishedAt"
        FROM step s LEFT JOIN usage u ON u.org_id = s.org_id AND u.step_id = s.id
        WHERE s.org_id = $1 AND s.run_id = $2 ORDER BY s.started_at, s.position LIMIT ${MAX_STEPS}`,
      values: [orgId, run.id],
    });
    const failedCalls = await tx.query<FailedCallView>({
      text: `SELECT u.task_id AS "taskId", u.failed_position AS position, u.model, u.input_tokens AS "inputTokens",
          u.output_tokens AS "outputTokens", u.cost_usd::float8 AS "costUsd", u.at
        FROM usage u WHERE u.org_id = $1 AND u.run_id = $2 AND u.failed_position IS NOT NULL
        ORDER BY u.at, u.task_id, u.failed_position, u.model LIMIT ${MAX_STEPS}`,
      values: [orgId, run.id],
    });
    const problems = await tx.query<ProblemView>({ text: PROBLEMS, values: [orgId, run.id] });
    const waiting = await tx.query<WaitingView>({ text: WAITING, values: [orgId, run.id] });
    const lists = { steps: steps.rows, failedCalls: failedCalls.rows, problems: problems.rows };
    return { run, ...lists, waiting: waiting.rows[0] ?? null };
  });
  if (found === undefined) return err(runNotFound(input.id));
  const task = await findTask(deps.db, { orgId, taskId: found.run.taskId });
  const tasks = await listTasks(deps.db, { orgId, runId: found.run.id });
  const { run, steps, failedCalls, problems, waiting } = found;
  return ok({
    ...run,
    tasks,
    waiting,
    stepList: steps,
    failedCalls,
    problems,
    messages: task?.history ?? [],
    artifacts: task?.artifacts ?? [],
  });
};
