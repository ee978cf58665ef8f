import { setTimeout as delay } from "node:timers/promises";
import { streamMessage, type AgentConnections, type AgentEvent } from "@shaman/a2a-wire";
import type { TokenContext, TokenMinter } from "@shaman/access";
import type { AgentDefinition, AgentResolver, ResolvedAgent } from "@shaman/agents";
import type { Db } from "@shaman/db";
import { fullNameOf, type AgentCalls, type Callee, type ChildCall } from "@shaman/engine";
import { AppError, err, ok, userError, type JsonObject, type Result } from "@shaman/kernel";
import { findChildTask, findPinnedCommit } from "@shaman/runs";

export type AgentCallsDeps = {
  readonly db: Db;
  readonly agents: AgentResolver;
  readonly minter: TokenMinter;
  readonly dispatcher: AgentConnections;
  /** Where internal servers are found: this one, or a balancer before all of them. */
  readonly internalUrl: string;
};

/** The task on whose behalf others are called. */
export type Caller = {
  readonly context: TokenContext;
  readonly contextId: string;
  readonly agent: ResolvedAgent;
};

const MAX_LISTED = 51;
const MAX_UNAVAILABLE = 3;
const UNAVAILABLE_WAIT_MS = 200;

/**
 * How one task calls other agents: those of its own repository at the run's commit, and those that its `calls:` names
 * among the exposed agents of the organization. Whatever else there may be is unknown to it.
 */
export const createAgentCalls = async (deps: AgentCallsDeps, caller: Caller): Promise<AgentCalls> => {
  const { orgId, repositoryId, commit, definition } = caller.agent;
  const own = await deps.agents.listPinned({ orgId, repositoryId, commit, limit: MAX_LISTED });
  const others = await Promise.all(definition.calls.map((name) => listedElsewhere(deps, orgId, name)));
  const named = Map.groupBy(own, (agent) => agent.definition.name);
  // By its name, unless another agent of the repository has the same: then by its path.
  const nameOf = ({ name, path }: AgentDefinition): string => (named.get(name)?.length === 1 ? name : path);
  const listed = [
    ...own.flatMap(({ definition: other }) =>
      other.path === definition.path ? [] : [{ name: nameOf(other), description: other.description }],
    ),
    ...others.flat(),
  ];
  return {
    listed,
    find: (name) => findCallee(deps, caller, { name, known: listed.map((one) => one.name) }),
    findTask: (taskId) => findChildTask(deps.db, { orgId, runId: caller.context.runId, taskId }),
    send: (call) => sendToAgent(deps, caller, call),
  };
};

const listedElsewhere = async (deps: AgentCallsDeps, orgId: string, name: string) => {
  const found = await deps.agents.resolveExposed({ orgId, name });
  return found.ok ? [{ name, description: found.value.definition.description }] : [];
};

const calleeOf = (agent: ResolvedAgent): Callee => {
  const { name, path, limits } = agent.definition;
  return { name, repositoryId: agent.repositoryId, path, commit: agent.commit, limits: { ...limits } };
};

const findCallee = async (
  deps: AgentCallsDeps,
  { context, agent }: Caller,
  wanted: { readonly name: string; readonly known: readonly string[] },
): Promise<Result<Callee>> => {
  const { orgId, repositoryId, commit, definition } = agent;
  const { name } = wanted;
  const own = await deps.agents.resolvePinned({ orgId, repositoryId, commit, name });
  if (own.ok) return ok(calleeOf(own.value));
  if (own.error.code === "agent_external") {
    return err(
      userError("agent_not_found", `${name} is an agent outside of this organization, which cannot be called yet.`),
    );
  }
  if (!definition.calls.includes(name)) return err(notCallable(own.error, wanted.known));
  const live = await deps.agents.resolveExposed({ orgId, name });
  if (!live.ok) return err(notCallable(live.error, wanted.known));
  // Within one run a repository stays at the commit at which it was first called.
  const pinned = await findPinnedCommit(deps.db, {
    orgId,
    runId: context.runId,
    repositoryId: live.value.repositoryId,
  });
  if (pinned === undefined || pinned === live.value.commit) return ok(calleeOf(live.value));
  const { path } = live.value.definition;
  const then = await deps.agents.resolvePinned({ orgId, repositoryId: live.value.repositoryId, commit: pinned, path });
  return then.ok ? ok(calleeOf(then.value)) : err(notCallable(then.error, wanted.known));
};

const notCallable = (error: AppError, known: readonly string[]): AppError => {
  const names = known.length === 0 ? "none" : known.slice(0, MAX_LISTED).join(", ");
  return userError("agent_not_found", `${error.message} Agents that can be called: ${names}.`);
};

/**
 * Sends a task to another agent as the worker sends the first: the same request, with a token that this server signs.
 * One that takes nothing for a moment is asked again; once it has begun, a broken stream is the caller's to judge.
 */
async function* sendToAgent(
  deps: AgentCallsDeps,
  caller: Caller,
  call: ChildCall,
): AsyncGenerator<AgentEvent, void, undefined> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      yield* streamMessage(deps.dispatcher, await requestOf(deps, caller, call));
      return;
    } catch (error) {
      const notYet = error instanceof AppError && error.code === "agent_unavailable";
      if (!notYet || attempt === MAX_UNAVAILABLE) throw error;
      await delay(UNAVAILABLE_WAIT_MS, undefined, { signal: call.signal });
    }
  }
}

const requestOf = async (deps: AgentCallsDeps, { context, contextId, agent }: Caller, call: ChildCall) => {
  const path = `/a2a/v1/agents/${encodeURIComponent(call.callee.name)}`;
  const message: JsonObject = {
    messageId: call.messageId,
    taskId: call.taskId,
    contextId,
    role: "ROLE_USER",
    parts: [{ text: call.text }],
  };
  const body = JSON.stringify({ jsonrpc: "2.0", id: call.taskId, method: "SendStreamingMessage", params: { message } });
  const depth = context.depth + 1;
  const { costLimit } = context.budget;
  const token = await deps.minter.mint({
    issuer: "shaman-internal-server",
    request: { method: "POST", path, body },
    context: {
      ...context,
      taskId: call.taskId,
      parentTaskId: context.taskId,
      depth,
      agent: fullNameOf(call.callee),
      commit: call.callee.commit,
      deadline: call.deadline,
      budget: { ...call.budget, ...(costLimit !== undefined && { costLimit }) },
      ancestors: [...context.ancestors, fullNameOf({ repositoryId: agent.repositoryId, path: agent.definition.path })],
    },
  });
  const { traceparent } = context;
  const headers = {
    authorization: `Bearer ${token}`,
    "x-shaman-context": JSON.stringify({ parentTaskId: context.taskId, depth }),
    ...(traceparent !== undefined && { traceparent }),
  };
  return { origin: deps.internalUrl, path, body, headers, signal: call.signal };
};
