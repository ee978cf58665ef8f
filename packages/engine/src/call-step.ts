import {
  TRACE_EXTENSION,
  type AgentEvent,
  type BudgetLeft,
  type RemoteTask,
  type StartedOutside,
} from "@shaman/a2a-wire";
import { AppError, err, isJsonObject, newId, ok, userError, type Result } from "@shaman/kernel";
import type { StepRecord } from "@shaman/runs";
import { parseCallAgent } from "@shaman/tools";
import { z } from "zod";
import { fullNameOf, startedCall, statusText, type Found, type StartedCall } from "./agent-calls.ts";
import { limitReached, refuse, type Share } from "./budget.ts";
import type { Failure, Suspension } from "./engine-event.ts";
import { enterOutsideCall, recallOutside, startOutsideCall } from "./outside-call-step.ts";
import { BrokenOff, RunFailed } from "./run-failed.ts";
import {
  hashOf,
  recordedAt,
  tell,
  toolOutput,
  untilCommitted,
  type Events,
  type PlannedCall,
  type RunState,
  type StepEnd,
} from "./run-state.ts";
import { capText, markAsData } from "./tool-text.ts";

/** What a finished call cost its caller of what a replay counts again. */
const callOutput = toolOutput.extend({
  used: z.object({ steps: z.number(), toolCalls: z.number() }).default({ steps: 0, toolCalls: 0 }),
});

/** Calls another agent, or enters a call again that an earlier attempt began: by its task's id, never a second time. */
export async function* callStep(state: RunState, plan: PlannedCall): Events<StepEnd> {
  const { call, position } = plan;
  const inputHash = hashOf([call.name, call.input]);
  const recorded = recordedAt(state, { position, kind: "call", inputHash });
  if (recorded !== undefined && recorded.state !== "started") {
    const { used, ...output } = callOutput.parse(recorded.output);
    state.meter.take(used);
    recallOutside(state, recorded);
    return { kind: "result", ...output };
  }
  if (recorded !== undefined && recorded.childTaskId === undefined) {
    return yield* enterOutsideCall(state, plan, { ...recorded, inputHash });
  }
  if (recorded !== undefined) return yield* enterAgain(state, plan, recorded);

  const begun = await prepare(state, plan);
  if ("problem" in begun) {
    const output = { text: begun.problem, isError: true };
    yield tell(state, {
      position,
      kind: "call",
      name: call.name,
      inputHash,
      state: "failed",
      input: call.input,
      output,
    });
    return { kind: "result", ...output };
  }
  if ("outside" in begun) return yield* startOutsideCall(state, plan, begun);
  const childTaskId = newId("task");
  const step = { position, kind: "call", name: begun.callee.name, inputHash, input: begun } as const;
  yield* untilCommitted(state, plan.signal);
  await state.deps
    .startStep({ ...step, child: { taskId: childTaskId, agent: begun.callee.name } })
    .catch((error: unknown) => {
      throw new BrokenOff(error);
    });
  yield tell(state, { ...step, state: "started", childTaskId });
  return yield* follow(state, plan, { begun, childTaskId, budget: begun.share });
}

/** Decides whether the call may be made, and takes its share of the budget. A problem is told to the model. */
const prepare = async (
  state: RunState,
  { call, waiting }: PlannedCall,
): Promise<StartedCall | StartedOutside | { readonly problem: string }> => {
  const asked = parseCallAgent(call.input);
  const found = asked.ok ? await findAsked(state, asked.value) : asked;
  const among = waiting.count;
  waiting.count -= 1;
  if (!asked.ok) return { problem: asked.error.message };
  if (!found.ok) return { problem: found.error.message };
  const { agent, message } = asked.value;
  if (found.value.kind === "outside") {
    if (state.input.budget.depth < 1) throw new RunFailed(limitReached("maxDepth"));
    const { outside, continues } = found.value;
    return { agent, message, outside, ...(continues !== undefined && { continues }) };
  }
  const { callee } = found.value;
  if (state.input.lineage.includes(fullNameOf(callee))) {
    return {
      problem: `${callee.name} is waiting for this very task, directly or through others, so it cannot be called from here. Do the work yourself, or call another agent.`,
    };
  }
  if (state.input.budget.depth < 1) throw new RunFailed(limitReached("maxDepth"));
  const { maxSteps, maxToolCalls, maxTokens, maxCostUsd } = callee.limits;
  const atMost: Partial<Share> = {
    ...(maxSteps !== undefined && { steps: maxSteps }),
    ...(maxToolCalls !== undefined && { toolCalls: maxToolCalls }),
    ...(maxTokens !== undefined && { tokens: maxTokens }),
    ...(maxCostUsd !== undefined && { costUsd: maxCostUsd }),
  };
  const share = state.meter.carve({ waiting: among, atMost });
  if (typeof share === "string") {
    refuse(share);
    return { problem: share };
  }
  return { agent, message, callee, share };
};

type Asked = Found & { readonly continues?: RemoteTask };

/** Whom the call is for: whom the name means, or an outside agent that asked for something in an earlier call. */
const findAsked = async (
  { deps, asking }: RunState,
  { agent, answers }: { readonly agent: string; readonly answers?: string | undefined },
): Promise<Result<Asked>> => {
  if (answers === undefined) return deps.calls.find(agent);
  const asked = asking.get(answers);
  if (asked?.outside.name === agent) return ok({ kind: "outside", outside: asked.outside, continues: asked.remote });
  const open = [...asking].map(([name, { outside }]) => `${name} of ${outside.name}`);
  const message = `No agent ${agent.slice(0, 200)} asked for anything in a call named ${JSON.stringify(answers)}. Calls in which something was asked: ${open.length === 0 ? "none" : open.join(", ")}.`;
  return err(userError("call_not_asking", message));
};

async function* enterAgain(state: RunState, plan: PlannedCall, recorded: StepRecord): Events<StepEnd> {
  const begun = startedCall.parse(recorded.input);
  const { childTaskId } = recorded;
  const child = childTaskId === undefined ? undefined : await state.deps.calls.findTask(childTaskId);
  if (childTaskId === undefined || child === undefined) {
    throw new AppError({
      code: "call_lost",
      kind: "unexpected",
      message: `Step ${plan.position} began a call without a task`,
    });
  }
  // Its share was taken out whole; what is paid was out already.
  state.meter.giveBack({ tokens: child.tokens, costUsd: child.costUsd });
  const { share } = begun;
  const budget = {
    ...share,
    tokens: Math.max(0, share.tokens - child.tokens),
    costUsd: Math.max(0, share.costUsd - child.costUsd),
  };
  if (child.state === "failed" || child.state === "canceled" || child.state === "rejected") {
    const text = statusText(child.statusMessage) ?? `its task is ${child.state}`;
    return yield* conclude(state, plan, { begun, end: { kind: "failed", text, left: undefined }, budget });
  }
  return yield* follow(state, plan, { begun, childTaskId, budget });
}

type Entered = { readonly begun: StartedCall; readonly childTaskId: string; readonly budget: Share };

type ChildEnd =
  | { readonly kind: "completed"; readonly text: string; readonly left: BudgetLeft | undefined }
  | { readonly kind: "failed"; readonly text: string; readonly left: BudgetLeft | undefined }
  | { readonly kind: "suspended"; readonly suspension: Suspension };

async function* follow(state: RunState, plan: PlannedCall, entered: Entered): Events<StepEnd> {
  const { begun, childTaskId, budget } = entered;
  const { callee } = begun;
  // Of this attempt: the time in which nobody worked on it, after a crash or for a person, is not the called agent's. All
  // attempts together end with the caller's deadline.
  const ownDeadline = Date.now() + (callee.limits.timeoutSeconds ?? Infinity) * 1_000;
  const startedAt = Date.now();
  const events = state.deps.calls.send({
    callee,
    taskId: childTaskId,
    messageId: `${state.input.taskId}-${plan.position}`,
    text: begun.message,
    budget: { ...budget, depth: Math.min(state.input.budget.depth - 1, callee.limits.maxDepth ?? Infinity) },
    deadline: Math.min(state.input.deadline, ownDeadline),
    signal: plan.signal,
  });
  let end: ChildEnd | undefined;
  try {
    for await (const event of events) {
      yield { type: "child", event };
      end ??= endOf(event, childTaskId);
    }
  } catch (error) {
    plan.signal.throwIfAborted();
    // Whether the agent is still at work, and how far, is in the record and nowhere else.
    throw new BrokenOff(error);
  }
  if (end === undefined) throw new BrokenOff(new Error(`The answer of ${callee.name} ended before its task did`));
  if (end.kind === "suspended") return end;
  return yield* conclude(state, plan, { begun, end, budget, durationMs: Math.max(0, Date.now() - startedAt) });
}

/** Records what the call came to, and takes back what the called agent has left. */
async function* conclude(
  state: RunState,
  { call, position }: PlannedCall,
  outcome: {
    readonly begun: StartedCall;
    readonly end: Exclude<ChildEnd, { kind: "suspended" }>;
    readonly budget: Share;
    readonly durationMs?: number;
  },
): Events<StepEnd> {
  const { begun, end, budget, durationMs } = outcome;
  const { name } = begun.callee;
  const left = end.left ?? { steps: 0, toolCalls: 0, tokens: 0, costUsd: 0 };
  state.meter.giveBack(left);
  const used = {
    steps: Math.max(0, budget.steps - left.steps),
    toolCalls: Math.max(0, budget.toolCalls - left.toolCalls),
  };
  const isError = end.kind === "failed";
  const text = isError
    ? `The agent ${name} failed. ${markAsData(`the agent ${name}`, capText(end.text, state.input.toolOutputBytes))}`
    : markAsData(`the agent ${name}`, capText(end.text, state.input.toolOutputBytes));
  yield tell(state, {
    position,
    kind: "call",
    name,
    inputHash: hashOf([call.name, call.input]),
    state: isError ? "failed" : "done",
    output: { text, isError, used },
    ...(durationMs !== undefined && { durationMs }),
  });
  return { kind: "result", text, isError };
}

/** How the called agent's task ended, where this event is its last. */
const endOf = (event: AgentEvent, taskId: string): ChildEnd | undefined => {
  if (!("statusUpdate" in event) || event.statusUpdate.taskId !== taskId) return undefined;
  const { status, metadata } = event.statusUpdate;
  const trace = metadata?.[TRACE_EXTENSION];
  if (trace?.kind === "retry") {
    const { code, message, retryable, retryAfterMs } = trace;
    const failure: Failure = {
      code,
      message,
      publicMessage: "An agent that was called cannot go on at the moment.",
      retryable,
      ...(retryAfterMs !== undefined && { retryAfterMs }),
    };
    return { kind: "suspended", suspension: { kind: "later", failure } };
  }
  switch (status.state) {
    case "TASK_STATE_COMPLETED":
      if (trace?.kind !== "result") return { kind: "completed", text: "", left: undefined };
      return { kind: "completed", text: trace.text, left: trace.left };
    case "TASK_STATE_FAILED":
    case "TASK_STATE_CANCELED":
    case "TASK_STATE_REJECTED": {
      const left = trace?.kind === "failure" ? trace.left : undefined;
      return { kind: "failed", text: statusText(status.message) ?? "It gave no reason.", left };
    }
    case "TASK_STATE_INPUT_REQUIRED": {
      if (trace?.kind !== "waits") return undefined;
      const parts = Array.isArray(status.message?.parts) ? status.message.parts : [];
      const asked = parts.flatMap((part) => (isJsonObject(part) ? [part] : []));
      return { kind: "suspended", suspension: { kind: "person", waitsFor: trace.waitsFor, parts: asked } };
    }
    default:
      return undefined;
  }
};
