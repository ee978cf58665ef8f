import { streamMessage, type AgentEvent } from "@shaman/a2a-wire";
import type { TokenMinter } from "@shaman/access";
import type { JsonObject } from "@shaman/kernel";
import type { LeasedRun, Reserved } from "@shaman/runs";
import type { Dispatcher } from "undici";

export type AgentCallDeps = {
  readonly minter: TokenMinter;
  readonly dispatcher: Dispatcher;
  /** Origin of the internal server. */
  readonly internalUrl: string;
};

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
 * Sends the run's task to the internal server with a token for this one request, and gives its events. The same task is
 * sent again after a crash; the internal server finds the recorded steps by its id.
 */
export async function* callAgent(
  deps: AgentCallDeps,
  { run, reserved }: { readonly run: LeasedRun; readonly reserved: Reserved },
  signal: AbortSignal,
): AsyncGenerator<AgentEvent, void, undefined> {
  const path = `/a2a/v1/agents/${encodeURIComponent(run.agent)}`;
  const message: JsonObject = run.messages[0] ?? {};
  const body = JSON.stringify({ jsonrpc: "2.0", id: run.epoch, method: "SendStreamingMessage", params: { message } });
  const agent = `${run.repositoryId}:${run.agent}`;
  const token = await deps.minter.mint({
    issuer: "shaman-public-server",
    request: { method: "POST", path, body },
    context: {
      tenantId: run.orgId,
      runId: run.runId,
      taskId: run.rootTaskId,
      depth: 0,
      initiator: initiatorOf(run),
      leaseEpoch: run.epoch,
      leaseHolder: run.holder,
      attemptsLeft: Math.max(0, Number(run.limits.maxAttempts ?? 1) - run.attempts - 1),
      agent,
      commit: run.commit,
      deadline: run.deadline.getTime(),
      budget: budgetOf(run, reserved),
      ancestors: [],
      ...(run.traceparent !== null && { traceparent: run.traceparent }),
    },
  });
  const headers = {
    authorization: `Bearer ${token}`,
    "x-shaman-context": JSON.stringify({ depth: 0 }),
    ...(run.traceparent !== null && { traceparent: run.traceparent }),
  };
  yield* streamMessage(deps.dispatcher, { origin: deps.internalUrl, path, body, headers, signal });
}
