import { forbidden, type Origin, type Principal } from "@shaman/access";
import { err, ok, userError, type AppError, type Result } from "@shaman/kernel";
import { replyToRun, type CommandDeps, type OperatorReply } from "../commands.ts";
import { getRun, runNotFound, type RunDetail, type WaitingView } from "./get-run.ts";

export type ReplyRunInput =
  /** By the run's or its task's id. */
  | { readonly kind: "answer"; readonly id: string; readonly text: string }
  /** By the approval's id, or by the run's or its task's for what it waits for now. */
  | { readonly kind: "approve" | "refuse"; readonly id: string; readonly reason?: string };

export type RepliedRun = { readonly run: RunDetail; readonly waiting: WaitingView };

/**
 * Answers the question of a suspended run, or decides about the call that it wants approved; its effect shows in the run's
 * events. Needs `run:answer`, `run:approve` or `run:refuse`.
 * Errors: `forbidden`, `run_not_found`, `run_not_waiting` where it does not wait, or for something else, with `runId` and
 * `waitsFor`.
 */
export const replyRun = async (
  deps: CommandDeps & { readonly origin: Origin },
  principal: Principal,
  input: ReplyRunInput,
): Promise<Result<RepliedRun>> => {
  const permission = `run:${input.kind}`;
  if (!principal.can(permission, "/runs/")) return err(forbidden(permission));
  const id = await runIdOf(deps, principal.orgId, input.id);
  const found = id === undefined ? err(runNotFound(input.id)) : await getRun(deps, principal, { id });
  if (!found.ok) return found;
  const run = found.value;
  const reply = run.waiting === null ? undefined : replyOf(input, run.waiting);
  if (run.waiting === null || reply === undefined) return err(notWaiting(run, input.kind));
  const target = {
    orgId: principal.orgId,
    runId: run.id,
    taskId: run.taskId,
    agent: run.agent,
    actor: principal.id,
    server: "web" as const,
    protocol: deps.origin.protocol ?? "",
  };
  const taken = await replyToRun(deps, target, reply);
  return taken ? ok({ run, waiting: run.waiting }) : err(notWaiting(run, input.kind));
};

const isApprovalId = (id: string): boolean => id.startsWith("approval_");

/** The run an id means: an approval's is that of the run which waits for it. */
const runIdOf = async (deps: CommandDeps, orgId: string, id: string): Promise<string | undefined> => {
  if (!isApprovalId(id)) return id;
  const { rows } = await deps.db.withOrg(orgId, (tx) =>
    tx.query<{ id: string }>({
      text: `SELECT id FROM run WHERE org_id = $1 AND finished_at IS NULL AND state = 'suspended'
        AND waits_for->>'approvalId' = $2 LIMIT 1`,
      values: [orgId, id],
    }),
  );
  return rows[0]?.id;
};

const replyOf = (input: ReplyRunInput, waiting: WaitingView): OperatorReply | undefined => {
  if (input.kind === "answer") return waiting.kind === "input" ? { kind: "answer", text: input.text } : undefined;
  const { approvalId } = waiting;
  if (waiting.kind !== "approval" || approvalId === undefined) return undefined;
  return { kind: input.kind, approvalId, ...(input.reason !== undefined && { reason: input.reason }) };
};

const notWaiting = (run: RunDetail, wanted: ReplyRunInput["kind"]): AppError => {
  const state = run.waiting === null ? run.state : `waiting for ${run.waiting.kind}`;
  const what = wanted === "answer" ? "an answer" : "a decision";
  const message = `The run ${run.id} is ${state}: it does not wait for ${what} now.`;
  return userError("run_not_waiting", message, { runId: run.id, waitsFor: run.waiting?.kind ?? null });
};
