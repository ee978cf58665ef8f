import type { CallInternal } from "@shaman/a2a-wire";
import type { LeasedRun, Reserved } from "@shaman/runs";

export type AgentCallDeps = { readonly callInternal: CallInternal };

const left = ({ limits }: LeasedRun, name: string, spent: number): number =>
  Math.max(0, Number(limits[name] ?? 0) - spent);

/** What the run's own limit lets it still cost. */
export const costLeft = (run: LeasedRun): number => left(run, "maxCostUsd", run.used.costUsd);

/** What the run's limits allow: steps and calls in all, because a replay counts them again, and what is left of the rest. */
const budgetOf = (run: LeasedRun, reserved: Reserved) => {
  return {
    steps: Math.ceil(left(run, "maxSteps", 0)),
    toolCalls: Math.ceil(left(run, "maxToolCalls", 0)),
    tokens: Math.ceil(left(run, "maxTokens", run.used.tokens)),
    costUsd: reserved.costUsd,
    ...(reserved.limit !== undefined && { costLimit: reserved.limit }),
    depth: Math.ceil(left(run, "maxDepth", 0)),
  };
};

const initiatorOf = ({ apiKeyId, userId, principal }: LeasedRun) => {
  const user = userId === null ? {} : { userId };
  if (apiKeyId !== null) return { type: "api_key", id: apiKeyId, ...user } as const;
  return { type: "user", id: principal, ...user } as const;
};

/**
 * Sends the run's task to the internal server and gives its events. The same task is sent again after a crash; the
 * internal server finds the recorded steps by its id.
 */
export const callAgent = (
  { callInternal }: AgentCallDeps,
  { run, reserved }: { readonly run: LeasedRun; readonly reserved: Reserved },
  signal: AbortSignal,
): ReturnType<CallInternal> =>
  callInternal({
    issuer: "shaman-public-server",
    agent: run.agent,
    rpcId: run.epoch,
    message: run.messages[0] ?? {},
    signal,
    context: {
      tenantId: run.orgId,
      runId: run.runId,
      taskId: run.rootTaskId,
      depth: 0,
      initiator: initiatorOf(run),
      leaseEpoch: run.epoch,
      leaseHolder: run.holder,
      attemptsLeft: Math.max(0, Number(run.limits.maxAttempts ?? 1) - run.attempts - 1),
      agent: `${run.repositoryId}:${run.agent}`,
      commit: run.commit,
      deadline: run.deadline.getTime(),
      budget: budgetOf(run, reserved),
      ancestors: [],
      ...(run.announced && { announced: true }),
      ...(run.traceparent !== null && { traceparent: run.traceparent }),
    },
  });
