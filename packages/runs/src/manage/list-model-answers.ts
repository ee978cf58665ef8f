import { forbidden, type Principal } from "@shaman/access";
import type { Db } from "@shaman/db";
import { err, ok, type Json, type Result } from "@shaman/kernel";
import { runNotFound } from "./get-run.ts";

/** What a model answered in one step of a task, as it is recorded. */
export type ModelAnswer = {
  readonly position: number;
  /** Text, tool calls, finish reason and notes, as the engine wrote them. */
  readonly output: Json;
  readonly model: string | null;
  readonly inputTokens: number | null;
  readonly outputTokens: number | null;
  readonly cachedInputTokens: number | null;
};

export type ModelAnswers = { readonly runId: string; readonly agent: string; readonly answers: readonly ModelAnswer[] };

const READ = "run:read";
const MAX_ANSWERS = 1_000;

/**
 * The answers of models in one task, in order: by the task's id, or by a run's for its first task. Needs `run:read`.
 * Errors: `forbidden`, `run_not_found`.
 */
export const listModelAnswers = async (
  deps: { readonly db: Db },
  principal: Principal,
  input: { readonly id: string },
): Promise<Result<ModelAnswers>> => {
  if (!principal.can(READ, "/runs/")) return err(forbidden(READ));
  const { orgId } = principal;
  const found = await deps.db.withOrg(orgId, async (tx) => {
    const tasks = await tx.query<{ id: string; runId: string; agent: string }>({
      text: `SELECT t.id, t.run_id AS "runId", t.agent FROM task t WHERE t.org_id = $1
        AND t.id = coalesce((SELECT r.root_task_id FROM run r WHERE r.org_id = $1 AND r.id = $2), $2)`,
      values: [orgId, input.id],
    });
    const task = tasks.rows[0];
    if (task === undefined) return undefined;
    const { rows } = await tx.query<ModelAnswer>({
      text: `SELECT s.position, s.output, u.model, u.input_tokens AS "inputTokens", u.output_tokens AS "outputTokens",
          u.cached_input_tokens AS "cachedInputTokens"
        FROM step s LEFT JOIN usage u ON u.org_id = s.org_id AND u.step_id = s.id
        WHERE s.org_id = $1 AND s.task_id = $2 AND s.kind = 'model' AND s.state = 'done'
        ORDER BY s.position LIMIT ${MAX_ANSWERS}`,
      values: [orgId, task.id],
    });
    return { runId: task.runId, agent: task.agent, answers: rows };
  });
  return found === undefined ? err(runNotFound(input.id)) : ok(found);
};
