import { cancelExternalTask, openOutside, startedOutside, type ExternalCallDeps } from "@shaman/a2a-wire";
import type { Db } from "@shaman/db";
import type { AppError } from "@shaman/kernel";
import { endOutsideCancel, takeOutsideCancels, type OutsideCancel, type OutsideCancelEnd } from "@shaman/runs";
import type { Logger } from "@shaman/telemetry";

export type CancelOutsideDeps = Pick<ExternalCallDeps, "directory" | "outbound"> & {
  readonly db: Db;
  readonly log: Logger;
};

const MAX_ATTEMPTS = 5;
/** The other side is done with its task, one way or another. */
const OVER: ReadonlySet<string> = new Set(["external_task_not_cancelable", "external_task_not_found"]);

/**
 * Asks outside agents to cancel the tasks that were open when ours ended early, whoever had begun them. An agent that is
 * away is asked again, five times over some eight minutes; what came of it is audited.
 */
export const cancelOutsideTasks = async (deps: CancelOutsideDeps, signal: AbortSignal): Promise<void> => {
  const calls = await takeOutsideCancels(deps.db);
  const ended = await Promise.allSettled(calls.map((call) => cancelOne(deps, call, signal)));
  for (const [i, one] of ended.entries()) {
    if (one.status === "fulfilled" || signal.aborted) continue;
    deps.log.error("outside_cancel_failed", one.reason, { taskId: calls[i]?.taskId });
  }
};

const cancelOne = async (deps: CancelOutsideDeps, call: OutsideCancel, signal: AbortSignal): Promise<void> => {
  const end = call.isOpen ? await askToCancel(deps, call, signal) : undefined;
  if (end !== "later") await endOutsideCancel(deps.db, call, end);
};

/** Nothing, where the message never left us. */
const askToCancel = async (
  deps: CancelOutsideDeps,
  call: OutsideCancel,
  signal: AbortSignal,
): Promise<OutsideCancelEnd | "later" | undefined> => {
  const { outside, continues } = startedOutside.parse(call.input);
  const { remote, refusedUnder } = openOutside.parse(call.output ?? {});
  const { name, server, target } = outside;
  const taskId = remote?.taskId ?? continues?.taskId;
  if (taskId === undefined) {
    // A later lease has sent again what was refused under an earlier one.
    if (refusedUnder === call.leaseEpoch) return undefined;
    return { name, server, result: "failed", outcome: "external_outcome_unknown" };
  }
  const about = { name, server, remoteTaskId: taskId };
  const asked = await cancelExternalTask(deps, { orgId: call.orgId, target, taskId, signal });
  if (asked.ok) return { ...about, result: "ok", outcome: "canceled" };
  if (OVER.has(asked.error.code)) return { ...about, result: "ok", outcome: "over" };
  if (mayPass(asked.error) && call.attempts < MAX_ATTEMPTS) return "later";
  return { ...about, result: "failed", outcome: asked.error.code };
};

const mayPass = ({ kind }: AppError): boolean => kind === "operational";
