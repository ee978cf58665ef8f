import {
  openOutside,
  remoteTask,
  startedOutside,
  type ExternalOutcome,
  type RemoteTask,
  type StartedOutside,
} from "@shaman/a2a-wire";
import type { Json } from "@shaman/kernel";
import type { StepRecord } from "@shaman/runs";
import { z } from "zod";
import { createNoticePipe } from "./notice-pipe.ts";
import { concludeOutside } from "./outside-answer.ts";
import { createOutsideNotices } from "./outside-notices.ts";
import { BrokenOff, RunFailed } from "./run-failed.ts";
import {
  hashOf,
  tell,
  untilCommitted,
  type EngineDeps,
  type Events,
  type PlannedCall,
  type RunState,
  type StepEnd,
} from "./run-state.ts";

/** What a finished step holds where the outside agent waits for an answer. */
const askingOutput = z.object({ asks: remoteTask });

/** An outside agent that says nothing else of when it can be asked again is left alone for this long. */
const SHORTEST_RETRY_MS = 1_000;

const callName = (position: number): string => `call-${position}`;

/** Knows again, at a replay, that an outside agent asked for something in this call. */
export const recallOutside = (state: RunState, recorded: StepRecord): void => {
  const asking = askingOutput.safeParse(recorded.output);
  if (!asking.success) return;
  const { outside } = startedOutside.parse(recorded.input);
  state.asking.set(callName(recorded.position), { outside, remote: asking.data.asks });
};

/** Commits under the lease that an outside agent is called, and only then calls it. */
export async function* startOutsideCall(state: RunState, plan: PlannedCall, begun: StartedOutside): Events<StepEnd> {
  const step = stepOf(plan, begun);
  yield* untilCommitted(state, plan.signal);
  await state.deps.startStep(step).catch((error: unknown) => {
    throw new BrokenOff(error);
  });
  yield tell(state, { ...step, ...about(begun), state: "started" });
  return yield* follow(state, plan, { begun, reentry: undefined });
}

/**
 * Goes on with a call that an earlier attempt began: with the remote task that it recorded, else its outcome is unknown,
 * unless the agent was registered as repeatable. One that was refused as a whole may be sent by the attempt right after:
 * that one may have sent it too, so that any later one takes it for unknown.
 */
export async function* enterOutsideCall(state: RunState, plan: PlannedCall, recorded: StepRecord): Events<StepEnd> {
  const begun = startedOutside.parse(recorded.input);
  const { remote = {}, refusedUnder } = openOutside.parse(recorded.output ?? {});
  const isUnsent = refusedUnder !== undefined && refusedUnder === state.input.leaseEpoch - 1;
  return yield* follow(state, plan, { begun, reentry: isUnsent ? undefined : remote });
}

type OpenStep = Parameters<EngineDeps["startStep"]>[0] & { readonly kind: "call" };

const stepOf = ({ call, position }: PlannedCall, begun: StartedOutside): OpenStep => ({
  position,
  kind: "call",
  name: begun.outside.name,
  inputHash: hashOf([call.name, call.input]),
  input: toJson(begun),
});

const about = ({ outside }: StartedOutside) => ({ server: outside.server });

const toJson = ({ agent, message, outside, continues }: StartedOutside): Json => ({
  agent,
  message,
  outside,
  ...(continues !== undefined && { continues: { ...continues } }),
});

/** Follows the call to its end. The remote task's id is told as soon as it is known, before anything else of the call. */
async function* follow(
  state: RunState,
  plan: PlannedCall,
  { begun, reentry }: { readonly begun: StartedOutside; readonly reentry: RemoteTask | undefined },
): Events<StepEnd> {
  const { position, signal } = plan;
  const { name, server } = begun.outside;
  const step = { ...stepOf(plan, begun), ...about(begun) };
  const startedAt = Date.now();
  const running = run(state, plan, { begun, reentry });
  let told = reentry?.taskId;
  for await (const notice of running.notices()) {
    const remote = running.remote();
    if (told === undefined && remote.taskId !== undefined) {
      told = remote.taskId;
      yield tell(state, { ...step, state: "started", output: { remote: { ...remote } } });
    }
    yield { type: "notice", notice: { position, tool: name, server, ...notice } };
  }
  const ended = await running.ended;
  if ("error" in ended) {
    signal.throwIfAborted();
    // A fault of ours: how far the agent has come is in the record, or nobody knows it.
    throw new BrokenOff(ended.error);
  }
  // What an earlier attempt may have sent is not undone by this one's being refused.
  const outcome = reentry === undefined ? ended.outcome : { ...ended.outcome, delivered: "maybe" as const };
  const retryAfterMs = retryAfter(state, outcome);
  if (outcome.kind === "error" && retryAfterMs !== undefined) {
    yield tell(state, { ...step, state: "started", output: { refusedUnder: state.input.leaseEpoch } });
    const { code, message } = outcome.error;
    const publicMessage = "An outside agent that was called is busy.";
    const failure = { code, message, publicMessage, retryable: true, retryAfterMs };
    return { kind: "suspended", suspension: { kind: "later", failure } };
  }
  const {
    asks,
    state: end,
    ...output
  } = concludeOutside({
    name,
    callName: callName(position),
    outcome,
    maxBytes: state.input.toolOutputBytes,
  });
  if (asks !== undefined) state.asking.set(callName(position), { outside: begun.outside, remote: asks });
  yield tell(state, {
    ...step,
    state: end,
    output: { ...output, ...(asks !== undefined && { asks: { ...asks } }) },
    durationMs: Math.max(0, Date.now() - startedAt),
  });
  return { kind: "result", ...output };
}

/** When the whole run may come back with the same message: it certainly was not taken, and there is time to wait. */
const retryAfter = ({ input }: RunState, outcome: ExternalOutcome): number | undefined => {
  if (outcome.kind !== "error" || outcome.delivered !== "no" || outcome.remote.taskId !== undefined) return undefined;
  const { retryAfterMs } = outcome.error;
  if (retryAfterMs === undefined) return undefined;
  const waitMs = Math.max(retryAfterMs, SHORTEST_RETRY_MS);
  return Date.now() + waitMs < input.deadline ? waitMs : undefined;
};

/** The call itself goes on whether or not anybody takes what it tells, so that an abort reaches the other side. */
const run = (
  { deps, input }: RunState,
  { position, signal }: PlannedCall,
  { begun, reentry }: { readonly begun: StartedOutside; readonly reentry: RemoteTask | undefined },
) => {
  const { outside, message, continues } = begun;
  const pipe = createNoticePipe();
  const noticesOf = createOutsideNotices(input.toolOutputBytes);
  let remote: RemoteTask = {};
  const ended = deps.calls
    .callOutside({
      outside,
      position,
      text: message,
      deadline: input.deadline,
      signal,
      isOver: () => signal.reason instanceof RunFailed || Date.now() >= input.deadline,
      tell: (progress) => {
        const isFirst = remote.taskId === undefined && progress.remote.taskId !== undefined;
        ({ remote } = progress);
        const notices = noticesOf(progress);
        // The task's id goes out with a notice.
        if (isFirst && notices.length === 0) pipe.push({ kind: "log", level: "info", message: "working" });
        for (const notice of notices) pipe.push(notice);
      },
      ...(continues !== undefined && { continues }),
      ...(reentry !== undefined && { reentry }),
    })
    .then(
      (outcome) => ({ outcome }),
      (error: unknown) => ({ error }),
    );
  void ended.then(pipe.close);
  return { ended, remote: () => remote, notices: pipe.notices };
};
