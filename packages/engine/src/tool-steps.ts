import { PLATFORM_TOOLS } from "@shaman/agents";
import { abortAfter } from "@shaman/kernel";
import type { ToolCall, ToolResult } from "@shaman/llm";
import { CALL_AGENT } from "@shaman/tools";
import { startedCall } from "./agent-calls.ts";
import { approvalStep } from "./approval-step.ts";
import { refuse } from "./budget.ts";
import { callStep } from "./call-step.ts";
import type { Suspension } from "./engine-event.ts";
import { mergeBranches } from "./merge-branches.ts";
import { outsideToolStep, recalledResult } from "./outside-tool-step.ts";
import { platformStep } from "./platform-step.ts";
import { RunSuspended } from "./run-failed.ts";
import { hashOf, recordedAt, tell, type Events, type PlannedCall, type RunState, type StepEnd } from "./run-state.ts";

/** Calls of one answer that run side by side; the others wait for one of them. */
const MAX_SIDE_BY_SIDE = 16;

/**
 * Runs the tool calls of one answer side by side and gives the model their results in its own order. When some of them
 * have to wait, the others are carried to their end first; then the task waits with the first of those.
 */
export async function* toolSteps(state: RunState, calls: readonly ToolCall[]): Events {
  refuse(state.meter.beforeTools(calls.length));
  const stop = new AbortController();
  const both = abortAfter(Infinity, state.signal, stop.signal);
  try {
    const plans = plan(state, calls, both.signal);
    const ends = yield* mergeBranches(
      plans.map((planned) => () => oneCall(state, planned)),
      { limit: MAX_SIDE_BY_SIDE, abandon: (error) => stop.abort(error) },
    );
    const results = ends.flatMap((end, i): ToolResult[] => {
      const call = calls[i];
      if (end.kind === "suspended" || call === undefined) return [];
      const { text: output, isError, media } = end;
      return [{ toolCallId: call.id, toolName: call.name, output, isError, ...(media && { media }) }];
    });
    const suspension = firstSuspension(ends);
    if (suspension !== undefined) throw new RunSuspended(suspension);
    state.messages.push({ role: "tool", results });
  } finally {
    both.clear();
  }
}

/** What goes on by itself comes before what waits for a person: that person is asked by the next attempt. */
const firstSuspension = (ends: readonly StepEnd[]): Suspension | undefined => {
  const suspensions = ends.flatMap((end) => (end.kind === "suspended" ? [end.suspension] : []));
  return suspensions.find(({ kind }) => kind === "later") ?? suspensions[0];
};

/** Gives each call its place, so that the steps have the same numbers however long each of them takes. */
const plan = (state: RunState, calls: readonly ToolCall[], signal: AbortSignal): readonly PlannedCall[] => {
  const waiting = { count: 0 };
  return calls.map((call) => {
    let approvalPosition: number | undefined;
    if (needsApproval(state, call)) {
      state.position += 1;
      approvalPosition = state.position;
    }
    state.position += 1;
    const { position } = state;
    const step = state.recorded.get(position);
    if (call.name === CALL_AGENT && step === undefined) waiting.count += 1;
    // A call that is under way has its share already; it must be out before others take theirs.
    const begun = step?.kind === "call" && step.state === "started" ? startedCall.safeParse(step.input) : undefined;
    if (begun?.success === true) state.meter.take(begun.data.share);
    return { call, position, approvalPosition, signal, waiting };
  });
};

/** Whether a person must decide first. What an earlier attempt recorded in its place counts before what is offered now. */
const needsApproval = (state: RunState, call: ToolCall): boolean => {
  const recorded = state.recorded.get(state.position + 1);
  if (recorded !== undefined) return recorded.kind === "approval";
  if (call.name === "request_input" || !isOffered(state, call.name)) return false;
  const { approval } = state.input.definition;
  const originalName = state.tools.get(call.name)?.originalName;
  return approval.some((name) => name === call.name || name === originalName);
};

const isOffered = (state: RunState, name: string): boolean =>
  platformToolOf(state, name) !== undefined ||
  state.tools.has(name) ||
  (name === CALL_AGENT && state.deps.calls.listed.length > 0);

const platformToolOf = (state: RunState, name: string) => state.input.definition.tools.find((tool) => tool === name);

async function* oneCall(state: RunState, planned: PlannedCall): Events<StepEnd> {
  const { call, approvalPosition, signal } = planned;
  signal.throwIfAborted();
  const outside = state.tools.get(call.name);
  if (approvalPosition !== undefined) {
    const decision = yield* approvalStep(state, planned, approvalPosition, outside?.server);
    if (decision.kind === "suspended") return decision;
    if (decision.kind === "refused") return yield* failedStep(state, planned, decision.text);
  }
  const platformTool = platformToolOf(state, call.name);
  if (platformTool !== undefined) return yield* platformStep(state, planned, platformTool);
  if (call.name === CALL_AGENT && state.deps.calls.listed.length > 0) return yield* callStep(state, planned);
  const recorded = state.recorded.get(planned.position);
  if (outside !== undefined || recorded?.state === "started") return yield* outsideToolStep(state, planned, outside);
  return yield* failedStep(state, planned, noSuchTool(state, call.name));
}

/** A call that is not made, with what the model is told about it. */
async function* failedStep(state: RunState, { call, position }: PlannedCall, text: string): Events<StepEnd> {
  const kind = call.name === CALL_AGENT && state.deps.calls.listed.length > 0 ? "call" : "tool";
  const inputHash = hashOf([call.name, call.input]);
  const recorded = recordedAt(state, { position, kind, inputHash });
  // Of a tool too that was there when it was called, and is not any more.
  if (recorded !== undefined) return recalledResult(state, recorded);
  const output = { text, isError: true };
  yield tell(state, { position, kind, name: call.name, inputHash, state: "failed", input: call.input, output });
  return { kind: "result", ...output };
}

const noSuchTool = (state: RunState, name: string): string => {
  const { tools } = state.input.definition;
  const offered = [...tools, ...state.tools.keys()];
  const known = name === CALL_AGENT || PLATFORM_TOOLS.some((tool) => tool === name);
  const why = known ? "This agent may not use it" : "There is no such tool";
  return `${why}: ${name.slice(0, 200)}. Tools of this agent: ${offered.length === 0 ? "none" : offered.join(", ")}.`;
};
