import { setTimeout as delay } from "node:timers/promises";
import type { AgentEvent, CallInternal, ExternalCallDeps, InternalCall } from "@shaman/a2a-wire";
import type { TokenContext } from "@shaman/access";
import { resolveCallee, type AgentDefinition, type AgentResolver, type ResolvedAgent } from "@shaman/agents";
import type { Db } from "@shaman/db";
import { fullNameOf, type AgentCalls, type Callee, type ChildCall, type Found } from "@shaman/engine";
import { describeOutsideAgents, type ExternalTarget, type NamedOutside } from "@shaman/external";
import { AppError, err, ok, userError, type Result } from "@shaman/kernel";
import { findChildTask, pinRepository } from "@shaman/runs";
import type { ListedAgent } from "@shaman/tools";
import { callOutside } from "./call-outside.ts";

export type AgentCallsDeps = {
  readonly db: Db;
  readonly agents: AgentResolver;
  readonly callInternal: CallInternal;
  readonly external: ExternalCallDeps;
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
 * How one task calls other agents: those of its own repository at the run's commit, those that its `calls:` names among
 * the exposed agents of the organization and the registered ones outside of it, and those outside that the repository has
 * an alias for. Whatever else there may be is unknown to it.
 */
export const createAgentCalls = async (deps: AgentCallsDeps, caller: Caller): Promise<AgentCalls> => {
  const { orgId, repositoryId, commit, definition } = caller.agent;
  const own = await deps.agents.listPinned({ orgId, repositoryId, commit, limit: MAX_LISTED });
  const elsewhere = await listElsewhere(deps, caller.agent);
  const named = Map.groupBy(own, (agent) => agent.definition.name);
  // By its name, unless another agent of the repository has the same: then by its path.
  const nameOf = ({ name, path }: AgentDefinition): string => (named.get(name)?.length === 1 ? name : path);
  const listed = [
    ...own.flatMap(({ definition: other }) =>
      other.path === definition.path ? [] : [{ name: nameOf(other), description: other.description }],
    ),
    ...elsewhere,
  ];
  return {
    listed,
    find: (name) => findCallee(deps, caller, { name, known: listed.map((one) => one.name) }),
    findTask: (taskId) => findChildTask(deps.db, { orgId, runId: caller.context.runId, taskId }),
    send: (call) => sendToAgent(deps, caller, call),
    callOutside: (call) => callOutside({ ...deps.external, db: deps.db }, caller.context, call),
  };
};

/** Agents of other repositories and of other organizations, as far as this one may call them. */
export const listElsewhere = async (
  deps: Pick<AgentCallsDeps, "db" | "agents">,
  { orgId, repositoryId, commit, definition }: ResolvedAgent,
): Promise<readonly ListedAgent[]> => {
  const aliases = (await deps.agents.listOutsideAliases({ orgId, repositoryId, commit })).slice(0, MAX_LISTED);
  const named = definition.calls.filter((name) => !aliases.some((alias) => alias.name === name));
  const exposed = await Promise.all(named.map((name) => deps.agents.resolveExposed({ orgId, name })));
  const ours = exposed.flatMap((found, i) => {
    const name = named[i];
    return found.ok && name !== undefined ? [{ name, description: found.value.definition.description }] : [];
  });
  const unknown = named.filter((name) => !ours.some((one) => one.name === name));
  // A private agent reaches others outside by an alias only.
  const wanted: readonly NamedOutside[] = [
    ...aliases,
    ...(definition.exposed ? unknown.map((name) => ({ name })) : []),
  ];
  if (wanted.length === 0) return ours;
  const cards = await describeOutsideAgents(deps.db, orgId, wanted);
  const outside = wanted.flatMap(({ name, url }) => {
    const said = cards.get(name);
    if (said === undefined && url === undefined) return [];
    return [{ name, description: said ?? `at ${originOf(url)}`, outside: true }];
  });
  return [...ours, ...outside];
};

const originOf = (url: string | undefined): string => URL.parse(url ?? "")?.origin ?? "";

const calleeOf = (agent: ResolvedAgent): Found => {
  const { name, path, limits } = agent.definition;
  const callee: Callee = {
    name,
    repositoryId: agent.repositoryId,
    path,
    commit: agent.commit,
    limits: { ...limits },
  };
  return { kind: "agent", callee };
};

const outsideOf = (target: ExternalTarget): Found => ({
  kind: "outside",
  outside: { name: target.name, target, server: target.kind === "registered" ? target.name : originOf(target.url) },
});

const findCallee = async (
  deps: AgentCallsDeps,
  { context, agent }: Caller,
  wanted: { readonly name: string; readonly known: readonly string[] },
): Promise<Result<Found>> => {
  const { orgId, repositoryId } = agent;
  const found = await resolveCallee(deps, { orgId, caller: agent, name: wanted.name });
  if (!found.ok) return err(notCallable(found.error, wanted.known));
  if (found.value.kind === "external") return ok(outsideOf(found.value.target));
  const live = found.value.agent;
  if (live.repositoryId === repositoryId) return ok(calleeOf(live));
  // Within one run a repository stays at one commit, however many of its agents come upon it at the same time.
  const at = { orgId, repositoryId: live.repositoryId };
  const { runId, leaseEpoch, leaseHolder } = context;
  const pinned = await pinRepository(deps.db, { ...at, runId, leaseEpoch, leaseHolder, commit: live.commit });
  if (pinned === live.commit) return ok(calleeOf(live));
  const { path } = live.definition;
  const then = await deps.agents.resolvePinned({ ...at, commit: pinned, path });
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
      for await (const events of deps.callInternal(requestOf(caller, call))) yield* events;
      return;
    } catch (error) {
      const notYet = error instanceof AppError && error.code === "agent_unavailable";
      if (!notYet || attempt === MAX_UNAVAILABLE) throw error;
      await delay(UNAVAILABLE_WAIT_MS, undefined, { signal: call.signal });
    }
  }
}

const requestOf = ({ context, contextId, agent }: Caller, call: ChildCall): InternalCall => {
  // A child's call began with a commit, so its run is on record.
  const { announced: _, ...known } = context;
  const { costLimit } = context.budget;
  return {
    issuer: "shaman-internal-server",
    agent: call.callee.name,
    rpcId: call.taskId,
    message: {
      messageId: call.messageId,
      taskId: call.taskId,
      contextId,
      role: "ROLE_USER",
      parts: [{ text: call.text }],
    },
    signal: call.signal,
    context: {
      ...known,
      taskId: call.taskId,
      parentTaskId: context.taskId,
      depth: context.depth + 1,
      agent: fullNameOf(call.callee),
      commit: call.callee.commit,
      deadline: call.deadline,
      budget: { ...call.budget, ...(costLimit !== undefined && { costLimit }) },
      ancestors: [...context.ancestors, fullNameOf({ repositoryId: agent.repositoryId, path: agent.definition.path })],
    },
  };
};
