import { forbidden, type Origin, type Principal } from "@shaman/access";
import { err, ok, userError, type Result } from "@shaman/kernel";
import { commandRun, type CommandDeps } from "../commands.ts";
import { runNotFound } from "./get-run.ts";
import { RUN_COLUMNS, type RunView } from "./run-view.ts";

export type ControlRunInput = { readonly id: string; readonly kind: "cancel" | "retry" };

/**
 * Leaves the command to cancel or retry a run, by the run's or its task's id; its effect shows in the run's events. Needs
 * `run:cancel` or `run:retry`. Errors: `forbidden`, `run_not_found`, `run_finished` where there is nothing to cancel,
 * `run_not_failed` where there is nothing to retry.
 */
export const controlRun = async (
  deps: CommandDeps & { readonly origin: Origin },
  principal: Principal,
  input: ControlRunInput,
): Promise<Result<RunView>> => {
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
  const isOver = run.finishedAt !== null;
  if (input.kind === "retry" && isOver && run.state !== "failed") {
    return err(
      userError("run_not_failed", `The run ${run.id} is ${run.state}: only a failed or waiting run is tried again.`),
    );
  }
  const { agent, taskId } = run;
  const target = { orgId, runId: run.id, taskId, agent, actor: principal.id, server: "web" as const };
  const taken = await commandRun(deps, { ...target, protocol: deps.origin.protocol ?? "" }, { kind: input.kind });
  return taken ? ok(run) : err(userError("run_finished", `The run ${run.id} is ${run.state} already.`));
};
