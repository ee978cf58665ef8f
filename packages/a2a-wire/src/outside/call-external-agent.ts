import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type {
  ExternalDirectory,
  ExternalTarget,
  HealthRecorder,
  OpenedExternalAgent,
  SupportedInterface,
} from "@shaman/external";
import { abortAfter, AppError, err, ok, unwrap, type Clock, type JsonObject, type Result } from "@shaman/kernel";
import type { Outbound } from "@shaman/outbound";
import {
  createAnswerState,
  type AnswerLimits,
  type AnswerState,
  type ExternalProgress,
  type RemoteTask,
  type Settled,
} from "./answer-state.ts";
import { startFigures } from "./call-figures.ts";
import type { WireRequest } from "./dialect.ts";
import { answerInvalid, deliveredOf, externalError, isTransient, type Delivered } from "./external-error.ts";
import { readEvent, readTask } from "./read-answer.ts";
import { createPatience, type Patience } from "./patience.ts";
import { byAnyWay, createRoute, type Route } from "./route.ts";
import { sendOnce, sendWire, type WireLimits } from "./wire-request.ts";
import type { ForeignEvent, ForeignTask, OutgoingMessage } from "./wire-shapes.ts";

export type ExternalCallDeps = {
  readonly directory: ExternalDirectory;
  readonly outbound: Pick<Outbound, "fetchWith">;
  readonly clock: Clock;
  /** Absent: no figures are kept. */
  readonly health?: Pick<HealthRecorder, "record">;
  readonly limits?: Partial<ExternalCallLimits>;
};

export type ExternalCallLimits = WireLimits &
  AnswerLimits & {
    readonly pollMs: number;
    readonly maxPollMs: number;
    /** How long a call tries an agent again at whose address nothing answers, as while its server starts anew. */
    readonly reconnectMs: number;
  };

export type ExternalCall = {
  readonly orgId: string;
  readonly target: ExternalTarget;
  /** `messageId` from `externalMessageId`, so that the same step sends the same id; `parts` are A2A Parts. */
  readonly message: {
    readonly messageId: string;
    readonly parts: readonly JsonObject[];
    readonly metadata?: JsonObject;
  };
  /** A context that this agent gave with an earlier answer. */
  readonly contextId?: string;
  /** A task of this agent that waits for this message (INPUT_REQUIRED, AUTH_REQUIRED). */
  readonly taskId?: string;
  /**
   * Set when the step of this call is found `started` after a crash: what had been recorded of `remote` until then, `{}`
   * if nothing. The call then goes on with that task instead of sending again.
   */
  readonly reentry?: RemoteTask;
  /** Milliseconds since 1970. */
  readonly deadline: number;
  readonly signal: AbortSignal;
  /**
   * Whether an abort of `signal` means that the task is not wanted any more. Say false where the run only moves to
   * another process, which will enter this call again. Absent: yes.
   */
  readonly shouldCancel?: () => boolean | Promise<boolean>;
  readonly traceparent?: string;
};

export type ExternalOutcome = { readonly remote: RemoteTask } & (
  | Settled
  | {
      readonly kind: "error";
      readonly error: AppError;
      /** `no`: the message may be sent again without harm. `maybe`: its outcome is unknown, unless `remote` has a task. */
      readonly delivered: Delivered;
    }
);

export type ExternalEvent = ExternalProgress | { readonly kind: "outcome"; readonly outcome: ExternalOutcome };

const DEFAULT_LIMITS: ExternalCallLimits = {
  maxAnswerBytes: 10 * 1024 * 1024,
  maxEventBytes: 2 * 1024 * 1024,
  headersMs: 60_000,
  idleMs: 120_000,
  requestMs: 120_000,
  maxEvents: 50_000,
  maxArtifacts: 100,
  maxPartsAnArtifact: 20_000,
  maxBytes: 4 * 1024 * 1024,
  pollMs: 250,
  maxPollMs: 5_000,
  reconnectMs: 10_000,
};
const CANCEL_MS = 5_000;
const GRACE_MS = 1_000;
/** Broken or refused subscriptions, and failed polls, one after another. */
const MAX_BREAKS = 3;
const MAX_FAILED_POLLS = 6;
/** Enough to see whether our message is among the last ones. */
const REENTRY_HISTORY = 50;

/**
 * The message id of a step's call: the same for the same step, in any process, and saying nothing about our ids. An
 * outside agent that recognizes a repeated message thus sees one when a call has to be sent again.
 */
export const externalMessageId = (step: {
  readonly orgId: string;
  readonly taskId: string;
  readonly position: number;
}): string => {
  const text = `${step.orgId}\n${step.taskId}\n${step.position}`;
  return `msg_${createHash("sha256").update(text).digest("base64url").slice(0, 32)}`;
};

/**
 * Calls an outside agent and gives what it does as it happens; the last event is the one `outcome`. Expected failures are
 * outcomes of kind `error`; only the abort of `signal` is thrown, as its reason, after the agent was asked to cancel.
 *
 * For whoever calls it from a recorded step:
 * - Record `remote` of the first event that has a `taskId`, before anything else of the call is shown. After a crash call
 *   again with the same message, `taskId`, `contextId` and deadline, and with `reentry` set to what was recorded: the
 *   call then reads the task (GetTask) and follows it (SubscribeToTask, or polls), and does not send. Artifacts come
 *   again as a whole (`append: false`).
 * - If nothing was recorded, say `reentry: {}`: the message is sent again only to an agent that was registered as
 *   repeatable; else the outcome is the error `external_outcome_unknown`.
 * - An answer to a waiting task (`taskId`) is sent again on re-entry if the task still waits and does not know the message.
 * - Keep asking for events until the end after an abort too: the cancel is forwarded on the way. Leaving the loop early
 *   cancels nothing.
 * - `remote.contextId` of the outcome is to be given as `contextId` with later calls of the same conversation.
 */
export async function* callExternalAgent(
  deps: ExternalCallDeps,
  call: ExternalCall,
): AsyncGenerator<ExternalEvent, void, undefined> {
  const limits = { ...DEFAULT_LIMITS, ...deps.limits };
  const time = abortAfter(call.deadline - deps.clock.now(), call.signal);
  const figures = startFigures(deps, call);
  const answer = createAnswerState(limits, expectedOf(call));
  const { deadline } = call;
  const patience = createPatience({ clock: deps.clock, totalMs: limits.reconnectMs, deadline, signal: time.signal });
  let session: Session | undefined;
  try {
    const agent = yield* openAgent(deps, call, { answer, patience, signal: time.signal });
    figures.opened(agent);
    session = openSession(deps, call, { agent, answer, limits, patience, signal: time.signal });
    for await (const event of follow(session)) {
      if (event.kind !== "fallback" && event.kind !== "unreachable") figures.answered();
      yield event;
    }
    const settled = answer.settled();
    if (settled === undefined) throw answerInvalid("it ended without a result");
    figures.ended();
    yield { kind: "outcome", outcome: { ...settled, remote: answer.remote() } };
  } catch (thrown) {
    if (call.signal.aborted) {
      figures.ended();
      if (session !== undefined && (await wantsCancel(call))) await cancel(session);
      throw call.signal.reason;
    }
    const error = time.timedOut() ? outOfTime() : thrown;
    if (!(error instanceof AppError)) throw error;
    // Where nobody will read on, the agent need not go on either.
    if (session !== undefined && LOST_FOR_US.has(error.code)) await cancel(session);
    figures.ended(error);
    const delivered = deliveredWith(error, { call, isOpen: session !== undefined, answer });
    yield { kind: "outcome", outcome: { kind: "error", error, delivered, remote: answer.remote() } };
  } finally {
    time.clear();
  }
}

/** Finds the agent with its card, which may be at the very server that is away. */
async function* openAgent(
  deps: ExternalCallDeps,
  { orgId, target }: ExternalCall,
  { answer, patience, signal }: Pick<Session, "answer" | "patience" | "signal">,
): AsyncGenerator<ExternalProgress, OpenedExternalAgent, undefined> {
  for (;;) {
    const opened = await deps.directory.open({ orgId, target, signal });
    if (opened.ok) return opened.value;
    if (!patience.mayWait(opened.error)) throw opened.error;
    if (patience.isFresh()) yield { kind: "unreachable", remote: answer.remote() };
    await patience.wait();
  }
}

/** Before the agent's card and interface were found, nothing was sent by this call. */
const deliveredWith = (
  error: AppError,
  { call, isOpen, answer }: { readonly call: ExternalCall; readonly isOpen: boolean; readonly answer: AnswerState },
): Delivered => {
  if (answer.remote().taskId !== call.taskId) return "maybe";
  return isOpen || call.reentry !== undefined ? deliveredOf(error) : "no";
};

const expectedOf = (call: ExternalCall): RemoteTask => {
  const taskId = call.reentry?.taskId ?? call.taskId;
  const contextId = call.reentry?.contextId ?? call.contextId;
  return { ...(taskId !== undefined && { taskId }), ...(contextId !== undefined && { contextId }) };
};

const outOfTime = (): AppError =>
  externalError({
    code: "external_timed_out",
    message: "The agent did not finish within the time of this call.",
    delivered: "maybe",
  });

/** After other errors the task may be asked for again, with its id. */
const LOST_FOR_US: ReadonlySet<string> = new Set([
  "external_timed_out",
  "external_answer_invalid",
  "external_answer_too_large",
]);

const wantsCancel = async (call: ExternalCall): Promise<boolean> => (await call.shouldCancel?.()) ?? true;

type Session = {
  readonly call: ExternalCall;
  readonly agent: OpenedExternalAgent;
  readonly route: Route;
  readonly answer: AnswerState;
  readonly limits: ExternalCallLimits;
  readonly patience: Patience;
  readonly signal: AbortSignal;
  readonly timeLeftMs: () => number;
};

const openSession = (
  deps: ExternalCallDeps,
  call: ExternalCall,
  input: Pick<Session, "agent" | "answer" | "limits" | "patience" | "signal">,
): Session => ({
  ...input,
  call,
  route: createRoute(input.agent, {
    outbound: deps.outbound,
    limits: input.limits,
    extraHeaders: call.traceparent === undefined ? {} : { traceparent: call.traceparent },
  }),
  // The call's own clock rings first, so that running out of time has one name.
  timeLeftMs: () => Math.max(0, call.deadline - deps.clock.now()) + GRACE_MS,
});

/** Begins the call or enters it again, and follows the task until it is settled. */
async function* follow(session: Session): AsyncGenerator<ExternalProgress, void, undefined> {
  const { answer } = session;
  yield* begin(session);
  if (answer.settled() === undefined && answer.remote().taskId !== undefined) yield* watch(session);
}

async function* begin(session: Session): AsyncGenerator<ExternalProgress, void, undefined> {
  const { call, agent } = session;
  if (call.reentry === undefined) return yield* send(session);
  if (call.reentry.taskId === undefined && call.taskId === undefined) {
    if (agent.repeatable) return yield* send(session);
    throw externalError({
      code: "external_outcome_unknown",
      message: `Whether ${agent.name} got the message is unknown, and it may not be sent twice.`,
      delivered: "maybe",
    });
  }
  const isWaiting = yield* lookAgain(session);
  if (isWaiting) yield* send(session);
}

/** Reads the task as it is; true when it waits for the very message of this call, of which it knows nothing. */
async function* lookAgain(session: Session): AsyncGenerator<ExternalProgress, boolean, undefined> {
  const { call, answer } = session;
  const task = yield* patiently(session, () => getTask(session, REENTRY_HISTORY));
  yield* answer.absorb({ kind: "task", task });
  const knowsMessage = task.history.some(({ messageId }) => messageId === call.message.messageId);
  return call.taskId !== undefined && answer.settled()?.kind === "interrupted" && !knowsMessage;
}

/** Asks again while nothing answers at the agent's address. For what may be repeated then. */
async function* patiently<T>(session: Session, ask: () => Promise<T>): AsyncGenerator<ExternalProgress, T, undefined> {
  for (;;) {
    try {
      return await ask();
    } catch (thrown) {
      if (!(yield* waitAfter(session, thrown))) throw thrown;
    }
  }
}

/** Waits for an agent that is not there, and begins again with the interface that its card prefers. False: not worth it. */
async function* waitAfter(
  { answer, patience, route, signal }: Session,
  thrown: unknown,
): AsyncGenerator<ExternalProgress, boolean, undefined> {
  if (signal.aborted || !patience.mayWait(thrown)) return false;
  if (patience.isFresh()) yield { kind: "unreachable", remote: answer.remote(), at: route.way().interface };
  await patience.wait();
  route.startOver();
  return true;
}

/**
 * Sends the message by the interface in use, and by the next one, or again after a pause, only where it certainly did not
 * arrive: it never goes out twice while its outcome is unknown, and always under the same id. What is gone over to again
 * after a pause is told the first time only.
 */
async function* send(session: Session): AsyncGenerator<ExternalProgress, void, undefined> {
  const { answer, route, signal } = session;
  const told = new Set<SupportedInterface>();
  for (;;) {
    try {
      return yield* sendOneWay(session);
    } catch (thrown) {
      if (signal.aborted || answer.hasBegun()) throw thrown;
      const from = route.way().interface;
      if (!route.fallBack(thrown)) {
        if (!(yield* waitAfter(session, thrown))) throw thrown;
        continue;
      }
      const to = route.way().interface;
      if (!told.has(to)) yield { kind: "fallback", remote: answer.remote(), from, to };
      told.add(to);
    }
  }
}

/** When the connection breaks and the task is known, following it is left to `watch`. */
async function* sendOneWay(session: Session): AsyncGenerator<ExternalProgress, void, undefined> {
  const { agent, answer, call } = session;
  try {
    yield* sendAs(session, { stream: agent.card.streaming });
  } catch (thrown) {
    if (session.signal.aborted || !(thrown instanceof AppError)) throw thrown;
    // The card promised what the interface does not do.
    const cannotStream = agent.card.streaming && NO_STREAMING.has(thrown.code);
    const isUntouched = !answer.hasBegun() && call.taskId === undefined;
    if (cannotStream && isUntouched) return yield* sendAs(session, { stream: false });
    if (!isTransient(thrown)) throw thrown;
    if (call.taskId === undefined && answer.remote().taskId !== undefined) return;
    if (call.taskId === undefined || deliveredOf(thrown) === "no") throw thrown;
    // What is known of the message stays as it is, also where the task cannot be asked for.
    const isKnown = yield* knowsMessage(session);
    if (!isKnown) throw thrown;
  }
}

/** Whether the task that the message answers can be asked for, and has moved on or knows the message. Other errors stand. */
async function* knowsMessage(session: Session): AsyncGenerator<ExternalProgress, boolean, undefined> {
  try {
    return !(yield* lookAgain(session));
  } catch (thrown) {
    if (session.signal.aborted || !(thrown instanceof AppError) || deliveredOf(thrown) === "maybe") throw thrown;
    return false;
  }
}

const NO_STREAMING: ReadonlySet<string> = new Set(["external_unsupported_operation", "external_binding_unsupported"]);

async function* sendAs(
  session: Session,
  { stream }: { readonly stream: boolean },
): AsyncGenerator<ExternalProgress, void, undefined> {
  const { call, answer } = session;
  const { contextId } = answer.remote();
  const message: OutgoingMessage = {
    ...call.message,
    ...(contextId !== undefined && { contextId }),
    ...(call.taskId !== undefined && { taskId: call.taskId }),
  };
  // A new task should have an id as soon as possible, which is what finds it again; a known one can be waited for.
  const request = session.route.way().wire.dialect.send(message, { stream, immediately: call.taskId === undefined });
  let isFirst = true;
  for await (const event of eventsOf(session, request)) {
    // The first snapshot of a task that waited may show it as it was before our answer came.
    const mayBeOld = isFirst && stream && call.taskId !== undefined && event.kind === "task";
    isFirst = false;
    yield* mayBeOld ? answer.absorbOld(event) : answer.absorb(event);
    if (answer.settled() !== undefined) return;
  }
  answer.confirm();
}

async function* eventsOf(session: Session, request: WireRequest): AsyncGenerator<ForeignEvent, void, undefined> {
  const { wire, interface: from } = session.route.way();
  const timeoutMs = session.timeLeftMs();
  for await (const result of sendWire(wire, request, { signal: session.signal, timeoutMs })) {
    yield readEvent(result, from.version);
  }
}

const getTask = ({ route, answer, signal, timeLeftMs }: Session, historyLength: number): Promise<ForeignTask> =>
  byAnyWay(route, async ({ wire, interface: from }) => {
    const request = wire.dialect.getTask(answer.remote().taskId ?? "", historyLength);
    return readTask(await sendOnce(wire, request, { signal, timeoutMs: timeLeftMs() }), from.version);
  });

/** Follows a task that is known: by subscription where the agent streams, else, and after breaks, by asking again and again. */
async function* watch(session: Session): AsyncGenerator<ExternalProgress, void, undefined> {
  const { agent, answer, limits, signal } = session;
  let breaks = agent.card.streaming ? 0 : MAX_BREAKS;
  let failedPolls = 0;
  let pauseMs = limits.pollMs;
  while (answer.settled() === undefined) {
    if (breaks < MAX_BREAKS) {
      const events = yield* subscribe(session);
      if (answer.settled() !== undefined) return;
      // A subscription's first event is the task as it is; only what comes after it is a sign of a working stream.
      breaks = events > 1 ? 0 : breaks + 1;
      if (events > 1) pauseMs = limits.pollMs;
    }
    let retryAfterMs = 0;
    try {
      yield* answer.absorb({ kind: "task", task: await getTask(session, 0) });
      failedPolls = 0;
    } catch (thrown) {
      failedPolls += 1;
      if (!(thrown instanceof AppError) || !isTransient(thrown) || failedPolls >= MAX_FAILED_POLLS) throw thrown;
      retryAfterMs = thrown.retryAfterMs ?? 0;
    }
    if (answer.settled() !== undefined) return;
    await sleep(Math.min(Math.max(pauseMs, retryAfterMs), session.timeLeftMs()), undefined, { signal });
    pauseMs = Math.min(pauseMs * 2, limits.maxPollMs);
  }
}

/** One subscription, as far as it goes; gives how many events it brought. What breaks it shows at the next GetTask. */
async function* subscribe(session: Session): AsyncGenerator<ExternalProgress, number, undefined> {
  const { route, answer, signal } = session;
  let events = 0;
  for (const request of route.way().wire.dialect.subscribe(answer.remote().taskId ?? "")) {
    try {
      for await (const event of eventsOf(session, request)) {
        events += 1;
        yield* answer.absorb(event);
        if (answer.settled() !== undefined) return events;
      }
      return events;
    } catch (thrown) {
      if (signal.aborted || !(thrown instanceof AppError)) throw thrown;
      if (thrown.code === "external_answer_invalid" || thrown.code === "external_answer_too_large") throw thrown;
      if (events > 0) return events;
    }
  }
  return events;
}

/** Asks the agent to stop. Whether it does is its own affair: nobody waits for it, and nothing is made of its answer. */
const cancel = async (session: Session): Promise<void> => {
  const { answer, route } = session;
  const { taskId } = answer.remote();
  if (taskId === undefined || answer.settled() !== undefined) return;
  await sendCancel(route, taskId, AbortSignal.timeout(CANCEL_MS)).catch(() => undefined);
};

const sendCancel = (route: Route, taskId: string, signal: AbortSignal): Promise<unknown> =>
  byAnyWay(route, ({ wire }) => sendOnce(wire, wire.dialect.cancelTask(taskId), { signal, timeoutMs: CANCEL_MS }));

/**
 * Asks an outside agent to cancel a task that nobody waits for any more, whoever began it. Errors: those of the registry
 * and of the agent; `external_task_not_cancelable` and `external_task_not_found` where the task is over already.
 */
export const cancelExternalTask = async (
  deps: Pick<ExternalCallDeps, "directory" | "outbound">,
  input: {
    readonly orgId: string;
    readonly target: ExternalTarget;
    readonly taskId: string;
    readonly signal: AbortSignal;
  },
): Promise<Result<void>> => {
  const { orgId, target, taskId } = input;
  const signal = AbortSignal.any([input.signal, AbortSignal.timeout(CANCEL_MS)]);
  try {
    const agent = unwrap(await deps.directory.open({ orgId, target, signal }));
    const route = createRoute(agent, { outbound: deps.outbound, limits: DEFAULT_LIMITS, extraHeaders: {} });
    await sendCancel(route, taskId, signal);
    return ok(undefined);
  } catch (thrown) {
    input.signal.throwIfAborted();
    if (signal.aborted) return err(outOfTime());
    if (thrown instanceof AppError) return err(thrown);
    throw thrown;
  }
};
