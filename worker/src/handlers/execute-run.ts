import type { AgentEvent, TraceRecord } from "@shaman/a2a-wire";
import { TRACE_EXTENSION } from "@shaman/a2a-wire";
import type { Db } from "@shaman/db";
import { abortAfter, AppError, newId, toAppError, type JsonObject } from "@shaman/kernel";
import type { FanOut, JobQueue } from "@shaman/queue";
import {
  claimRun,
  createRunRecorder,
  isTerminal,
  leaseLost,
  listLeftOpen,
  loadSteps,
  recordBatch,
  wakeUpOf,
  type LeasedRun,
  type RecorderOptions,
  type RunOutcome,
  type RunRecorder,
} from "@shaman/runs";
import type { Logger } from "@shaman/telemetry";
import type { HeldLeases } from "../held-leases.ts";
import { callAgent, type AgentCallDeps } from "./call-agent.ts";

export type ExecuteRunDeps = AgentCallDeps & {
  readonly db: Db;
  readonly queue: JobQueue;
  readonly fanOut: FanOut;
  readonly held: HeldLeases;
  readonly worker: string;
  readonly leaseMs: number;
  readonly recorder: RecorderOptions;
  readonly log: Logger;
};

/** Why a worker stops a run that goes on elsewhere or later. */
export class StopRun extends Error {
  readonly why: "cancel" | "handover";
  constructor(why: "cancel" | "handover") {
    super(`run stopped: ${why}`);
    this.why = why;
  }
}

/** Claims in a row without a finished step after which a run is given up. */
const POISON_CLAIMS = 5;
const UNREACHABLE_RETRY_MS = 1_000;
const BROKEN_RETRY_MS = 500;

/**
 * Takes the run's lease and works on it until it is finished, waits for somebody, or must be tried again later. Does
 * nothing when another worker holds it: the job was one of several that woke the same run.
 */
export const executeRun = async (
  deps: ExecuteRunDeps,
  job: { readonly orgId: string; readonly runId: string },
): Promise<void> => {
  const run = await claimRun(deps.db, { ...job, leaseMs: deps.leaseMs, worker: deps.worker });
  if (run === undefined) return;
  const stop = new AbortController();
  deps.held.add({ lease: run, stop: (reason) => stop.abort(reason) });
  const recorder = createRunRecorder(deps, run, deps.recorder);
  try {
    const outcome = await work(deps, { run, recorder, stop: stop.signal });
    const recorded = await recorder.finish(outcome);
    if (outcome.kind === "parked") await enqueueAgain(deps, run, { wake: recorded.wake, retryAt: outcome.retryAt });
  } catch (error) {
    // Whoever holds the lease now, or the sweep, goes on from what was recorded.
    deps.log.error("run_abandoned", error, { runId: run.runId, epoch: run.epoch });
  } finally {
    deps.held.remove(run.runId);
  }
};

type Work = { readonly run: LeasedRun; readonly recorder: RunRecorder; readonly stop: AbortSignal };

const enqueueAgain = async (
  deps: ExecuteRunDeps,
  run: LeasedRun,
  next: { readonly wake: number; readonly retryAt: Date },
): Promise<void> => {
  const delayMs = Math.max(0, next.retryAt.getTime() - Date.now());
  const job = wakeUpOf({ orgId: run.orgId, runId: run.runId, priority: run.priority, wake: next.wake, delayMs });
  await deps.queue.add(job).catch((error: unknown) => deps.log.error("enqueue_failed", error, { runId: run.runId }));
};

const work = async (deps: ExecuteRunDeps, { run, recorder, stop }: Work): Promise<RunOutcome> => {
  const cancel = run.commands.find((command) => command.kind === "cancel");
  if (cancel !== undefined) return canceled({ run, recorder }, cancel.id);
  if (run.barrenClaims > POISON_CLAIMS) return failed({ run, recorder }, poisoned(run));
  await applyAnswer(deps, run);
  if (run.epoch > 1) for (const artifact of await listLeftOpen(deps.db, run)) recorder.leftOpen(artifact);
  if (run.taskState !== "working") recorder.status({ taskId: run.rootTaskId, state: "working", lazy: true });
  return follow(deps, { run, recorder, stop });
};

/** Records what the caller answered as the result of the step that asked, so that the replay finds it. */
const applyAnswer = async (deps: ExecuteRunDeps, run: LeasedRun): Promise<void> => {
  const answer = run.commands.find((command) => command.kind === "answer");
  if (answer === undefined) return;
  const steps = await loadSteps(deps.db, { orgId: run.orgId, taskId: answer.taskId });
  const asked = steps.findLast((step) => step.kind === "input" && step.state === "started");
  const step =
    asked === undefined
      ? []
      : [{ ...asked, state: "done" as const, output: answer.payload, taskId: answer.taskId, agent: run.agent }];
  const recorded = await recordBatch(deps.db, run, {
    events: [],
    tasks: [],
    steps: step,
    artifacts: [],
    agentMessages: [],
    appliedCommands: [answer.id],
    audit: [],
  });
  if (recorded === undefined) throw leaseLost(run.runId);
};

/** Follows the agent's answer and records it as it comes. */
const follow = async (deps: ExecuteRunDeps, { run, recorder, stop }: Work): Promise<RunOutcome> => {
  const both = abortAfter(Infinity, stop, recorder.lost);
  const events = callAgent(deps, run, both.signal);
  try {
    for (let next = await events.next(); next.done !== true; next = await events.next()) {
      const outcome = record({ run, recorder }, next.value);
      if (outcome === undefined) continue;
      void readOut(events);
      return outcome;
    }
    throw new AppError({
      code: "agent_stream_broken",
      kind: "operational",
      message: "The answer ended before the task did",
    });
  } catch (error) {
    if (recorder.lost.aborted) throw recorder.lost.reason;
    if (stop.aborted) return stopped(deps, { run, recorder, stop });
    deps.log.warn("agent_broken_off", { runId: run.runId, epoch: run.epoch, message: toAppError(error).message });
    return unreachable({ run, recorder }, toAppError(error));
  } finally {
    both.clear();
  }
};

const EVENTS_AFTER_THE_END = 10;

/** Takes the end of a stream whose last event has come: left unread, it would cost the connection it came on. */
const readOut = async (events: AsyncGenerator<AgentEvent, void, undefined>): Promise<void> => {
  try {
    for (let count = 0; count < EVENTS_AFTER_THE_END; count += 1) if ((await events.next()).done === true) return;
    await events.return();
  } catch {
    // What breaks after the last event breaks nothing.
  }
};

const stopped = async (deps: ExecuteRunDeps, { run, recorder, stop }: Work): Promise<RunOutcome> => {
  if (!(stop.reason instanceof StopRun)) throw stop.reason;
  if (stop.reason.why === "handover") return { kind: "parked", retryAt: new Date(), counts: "nothing" };
  const [found] = await deps.db.batch(run.orgId, [
    {
      name: "open_cancel",
      text: "SELECT id FROM task_command WHERE org_id = $1 AND run_id = $2 AND kind = 'cancel' AND applied_at IS NULL",
      values: [run.orgId, run.runId],
    },
  ]);
  return canceled({ run, recorder }, found?.rows[0]?.id);
};

type Recording = { readonly run: LeasedRun; readonly recorder: RunRecorder };

/** Records one event; gives what becomes of the run when that was its last. */
const record = (at: Recording, event: AgentEvent): RunOutcome | undefined => {
  const { run, recorder } = at;
  if ("task" in event) return undefined;
  if ("artifactUpdate" in event) {
    const { artifact, append, lastChunk, taskId } = event.artifactUpdate;
    const { artifactId, name, description, metadata } = artifact;
    recorder.artifact(taskId, {
      artifactId,
      parts: artifact.parts,
      append,
      lastChunk,
      ...(name !== undefined && { name }),
      ...(description !== undefined && { description }),
      ...(metadata !== undefined && { metadata }),
    });
    return undefined;
  }
  const { status, metadata, taskId } = event.statusUpdate;
  const trace = metadata?.[TRACE_EXTENSION];
  if (trace?.kind === "step") recordStep(at, taskId, trace);
  if (taskId !== run.rootTaskId) return undefined;
  switch (status.state) {
    case "TASK_STATE_COMPLETED":
      recorder.status({ taskId, state: "completed" });
      recorder.audit(auditOf(run, { result: "ok", state: "completed" }));
      return { kind: "finished", state: "completed" };
    case "TASK_STATE_FAILED":
      return failure(at, { trace, message: status.message });
    case "TASK_STATE_INPUT_REQUIRED":
      recorder.status({
        taskId,
        state: "input_required",
        ...(status.message !== undefined && { message: status.message }),
      });
      return { kind: "suspended", on: "input" };
    default:
      return undefined;
  }
};

const recordStep = (
  { run, recorder }: Recording,
  taskId: string,
  { step }: Extract<TraceRecord, { kind: "step" }>,
): void => {
  recorder.step(run.agent, taskId, step);
  if (step.kind !== "tool" || step.state === "started") return;
  recorder.audit({
    ...auditOf(run, { result: step.state === "done" ? "ok" : "failed", state: step.state }),
    action: "tool:call",
    resource: `/agents/${run.agent}/tools/${step.name}/`,
    tool: step.name,
  });
};

const auditOf = (run: LeasedRun, { result, state }: { readonly result: "ok" | "failed"; readonly state: string }) => ({
  orgId: run.orgId,
  actor: run.apiKeyId === null ? run.principal : `key:${run.apiKeyId}`,
  action: `task:${state}`,
  resource: run.rootTaskId,
  result,
  agent: run.agent,
  runId: run.runId,
  taskId: run.rootTaskId,
  traceId: run.traceparent?.split("-")[1],
  userId: run.userId ?? undefined,
  server: "worker",
});

type FailureRecord = { readonly code: string; readonly message: string; readonly text: string };

/** A failure of the agent's own: tried again where that may help and the policy allows it, else the end. */
const failure = (
  at: Recording,
  failed_: { readonly trace: TraceRecord | undefined; readonly message: JsonObject | undefined },
): RunOutcome => {
  const trace = failed_.trace?.kind === "failure" ? failed_.trace : undefined;
  const code = trace?.code ?? "agent_failed";
  const text = textOf(failed_.message) ?? "The agent failed.";
  const retryAt = trace?.retryable === true ? nextAttempt(at.run, trace.retryAfterMs) : undefined;
  if (retryAt === undefined) return failed(at, { code, message: trace?.message ?? text, text });
  const attempt = at.run.attempts + 1;
  const payload = { attempt, code, message: text, retryAt: retryAt.toISOString() };
  at.recorder.event(at.run.rootTaskId, { type: "run.retry", payload });
  return { kind: "parked", retryAt, counts: trace?.retryAfterMs === undefined ? "attempt" : "nothing" };
};

/** When to try again, or nothing when the policy or the run's deadline leaves no time for it. */
const nextAttempt = (run: LeasedRun, retryAfterMs: number | undefined): Date | undefined => {
  const attempt = run.attempts + 1;
  if (retryAfterMs === undefined && attempt >= Number(run.limits.maxAttempts ?? 1)) return undefined;
  const backoffMs = Number(run.limits.backoffSeconds ?? 1) * 1_000 * 2 ** (attempt - 1);
  const at = Date.now() + (retryAfterMs ?? backoffMs);
  return at < run.deadline.getTime() ? new Date(at) : undefined;
};

/** The agent could not be reached or its stream broke: nothing the agent did, so its attempts are not counted. */
const unreachable = (at: Recording, error: AppError): RunOutcome => {
  if (error.kind !== "operational") {
    return failed(at, { code: error.code, message: error.message, text: "The agent could not be run." });
  }
  if (Date.now() > at.run.deadline.getTime()) {
    return failed(at, {
      code: "limit_reached",
      message: error.message,
      text: "The run reached its limit timeoutSeconds.",
    });
  }
  const neverStarted = error.code === "agent_unavailable";
  const delayMs = neverStarted ? UNREACHABLE_RETRY_MS : BROKEN_RETRY_MS;
  return { kind: "parked", retryAt: new Date(Date.now() + delayMs), counts: neverStarted ? "nothing" : "claim" };
};

const poisoned = (run: LeasedRun): FailureRecord => ({
  code: "run_poisoned",
  message: `Given up after ${run.barrenClaims - 1} attempts that ended without a finished step`,
  text: "The run was given up: it broke off several times without getting anywhere. Retry it when the cause is mended.",
});

const failed = ({ run, recorder }: Recording, { code, message, text }: FailureRecord): RunOutcome => {
  recorder.status({ taskId: run.rootTaskId, state: "failed", message: agentMessage(run, text) });
  recorder.audit(auditOf(run, { result: "failed", state: "failed" }));
  return { kind: "finished", state: "failed", error: { code, message } };
};

const canceled = ({ run, recorder }: Recording, commandId: unknown): RunOutcome => {
  if (typeof commandId === "string") recorder.applied(commandId);
  if (!isTerminal(run.taskState)) recorder.status({ taskId: run.rootTaskId, state: "canceled" });
  recorder.audit(auditOf(run, { result: "ok", state: "canceled" }));
  return { kind: "finished", state: "canceled" };
};

const agentMessage = (run: LeasedRun, text: string): JsonObject => ({
  messageId: newId("msg"),
  contextId: run.contextId,
  taskId: run.rootTaskId,
  role: "ROLE_AGENT",
  parts: [{ text }],
});

const textOf = (message: JsonObject | undefined): string | undefined => {
  const [part] = Array.isArray(message?.parts) ? message.parts : [];
  return typeof part === "object" && part !== null && "text" in part && typeof part.text === "string"
    ? part.text
    : undefined;
};
