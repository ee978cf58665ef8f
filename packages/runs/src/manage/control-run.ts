import { forbidden, type Origin, type Principal } from "@shaman/access";
import { err, ok, userError, type AppError, type Result } from "@shaman/kernel";
import { commandRun, goOnNow, retryRun, type CommandDeps } from "../commands.ts";
import { runNotFound } from "./get-run.ts";
import { RUN_COLUMNS, type RunView } from "./run-view.ts";

export type ControlRunInput = { readonly id: string; readonly kind: "cancel" | "retry" };

export type ControlledRun = RunView & {
  /** The new run in which a failed one is done again; null where the run itself goes on. */
  readonly retriedAs: { readonly runId: string; readonly taskId: string } | null;
};

/**
 * Leaves the command to cancel or retry a run, by the run's or its task's id; its effect shows in the run's events. A
 * retry wakes a run that waits for its time, and does a failed one again as a new run. Needs `run:cancel` or `run:retry`.
 * Errors: `forbidden`, `run_not_found`, `run_finished` where there is nothing to cancel, `run_not_failed` where there is nothing to retry.
 */
export const controlRun = async (
  deps: CommandDeps & { readonly origin: Origin },
  principal: Principal,
  input: ControlRunInput,
): Promise<Result<ControlledRun>> => {
  const permission = `run:${input.kind}`;
  if (!principal.can(permission, "/runs/")) return err(forbidden(permission));
  const { orgId } = principal;
  const { rows } = await deps.db.withOrg(orgId, (tx) =>
    tx.query<RunView>({
      text: `SELECT ${RUN_COLUMNS} FROM run r WHERE r.org_id = $1
        AND r.id = coalesce((SELECT t.run_id FROM task t WHERE t.org_id = $1 AND t.id = $2), $2)`,
      values: [orgId, input.id],
    }),
  );
  const run = rows[0];
  if (run === undefined) return err(runNotFound(input.id));
  const { agent, taskId } = run;
  const protocol = deps.origin.protocol ?? "";
  const target = { orgId, runId: run.id, taskId, agent, actor: principal.id, server: "web" as const, protocol };
  switch (input.kind) {
    case "cancel": {
      const taken = await commandRun(deps, target, { kind: "cancel" });
      return taken
        ? ok({ ...run, retriedAs: null })
        : err(userError("run_finished", `The run ${run.id} is finished already.`));
    }
    case "retry": {
      if (run.state === "submitted" && (await goOnNow(deps, target))) return ok({ ...run, retriedAs: null });
      const retried = await retryRun(deps, target);
      if (retried === undefined) return err(notFailed(run));
      return ok({ ...run, retriedAs: { runId: retried.runId, taskId: retried.taskId } });
    }
  }
};

const notFailed = (run: RunView): AppError =>
  userError("run_not_failed", `The run ${run.id} is ${run.state}: only a failed or waiting run is tried again.`);
