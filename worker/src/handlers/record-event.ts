import type { AgentEvent, AgentStatus, TraceRecord } from "@shaman/a2a-wire";
import { TRACE_EXTENSION } from "@shaman/a2a-wire";
import { publicMessageOf, type AppError, type JsonObject } from "@shaman/kernel";
import { isTerminal, type LeasedRun, type RunOutcome, type StepRecord, type TaskState } from "@shaman/runs";
import { auditOf, completed, endBelow, failed, type Recording } from "./run-end.ts";

/**
 * Records one event; gives what becomes of the run when that was its last. A promise means that no other event may be
 * recorded before it has resolved.
 */
export const record = (at: Recording, event: AgentEvent): RunOutcome | Promise<RunOutcome | undefined> | undefined => {
  const { run, recorder, tree } = at;
  if ("task" in event) {
    const { id: taskId } = event.task;
    if (taskId !== run.rootTaskId && tree.move(taskId, "working")) {
      recorder.status({ taskId, state: "working", lazy: true });
    }
    return undefined;
  }
  if ("artifactUpdate" in event) {
    const { artifact, append, lastChunk, taskId } = event.artifactUpdate;
    const { artifactId, name, description, metadata } = artifact;
    const storing = recorder.artifact(taskId, {
      artifactId,
      parts: artifact.parts,
      append,
      lastChunk,
      ...(name !== undefined && { name }),
      ...(description !== undefined && { description }),
      ...(metadata !== undefined && { metadata }),
    });
    return storing?.then(() => undefined);
  }
  const { metadata, taskId } = event.statusUpdate;
  const trace = metadata?.[TRACE_EXTENSION];
  if (trace !== undefined) recordTrace(at, taskId, trace);
  return taskId === run.rootTaskId
    ? recordRootStatus(at, event.statusUpdate, trace)
    : recordChildStatus(at, event.statusUpdate);
};

const recordRootStatus = (
  at: Recording,
  { status, taskId }: AgentStatus,
  trace: TraceRecord | undefined,
): RunOutcome | Promise<RunOutcome> | undefined => {
  const { recorder } = at;
  switch (status.state) {
    case "TASK_STATE_COMPLETED":
      return completed(at);
    case "TASK_STATE_FAILED":
      return failure(at, { trace, message: status.message });
    case "TASK_STATE_INPUT_REQUIRED": {
      recorder.status({ taskId, state: "input_required", ...messageOf(status) });
      const waitsFor = trace?.kind === "waits" ? trace.waitsFor : undefined;
      return { kind: "suspended", on: waitsFor?.kind ?? "input", ...(waitsFor !== undefined && { waitsFor }) };
    }
    default:
      return undefined;
  }
};

/**
 * What becomes of a called agent's task. It is told once: an attempt that enters a finished call again changes nothing.
 * Where it ended early, what it had called in turn has ended with it.
 */
const recordChildStatus = (at: Recording, { status, taskId }: AgentStatus): Promise<undefined> | undefined => {
  const { recorder, tree } = at;
  const state = CHILD_STATES[status.state];
  if (state === undefined || !tree.move(taskId, state)) return undefined;
  const tell = (): undefined => {
    recorder.status({ taskId, state, ...messageOf(status) });
  };
  return isTerminal(state) && state !== "completed" ? endBelow(at, taskId).then(tell) : tell();
};

const CHILD_STATES: Readonly<Partial<Record<AgentStatus["status"]["state"], TaskState>>> = {
  TASK_STATE_COMPLETED: "completed",
  TASK_STATE_FAILED: "failed",
  TASK_STATE_CANCELED: "canceled",
  TASK_STATE_REJECTED: "rejected",
  TASK_STATE_INPUT_REQUIRED: "input_required",
};

const messageOf = ({ message }: AgentStatus["status"]) => (message === undefined ? {} : { message });

const recordTrace = (at: Recording, taskId: string, trace: TraceRecord): void => {
  const { recorder, tree } = at;
  switch (trace.kind) {
    case "step":
      recordStep(at, taskId, trace);
      return;
    case "usage":
      recorder.usage({ taskId, agent: tree.agentOf(taskId), position: trace.position, usage: trace.usage });
      return;
    case "notice":
      recorder.event(taskId, { type: "notice", payload: trace.notice });
      return;
    case "data": {
      const { position, name, value } = trace;
      recorder.data({ taskId, agent: tree.agentOf(taskId), position, name, value });
      return;
    }
    case "commit":
      recorder.commitNow();
      return;
    case "failure":
    case "retry":
    case "waits":
    case "result":
  }
};

const recordStep = (
  { run, recorder, tree }: Recording,
  taskId: string,
  { step }: Extract<TraceRecord, { kind: "step" }>,
): void => {
  const agent = tree.agentOf(taskId);
  recorder.step(agent, taskId, step);
  if (step.childTaskId !== undefined) tree.add({ taskId: step.childTaskId, agent: step.name, parentTaskId: taskId });
  if ((step.kind !== "tool" && step.kind !== "call") || step.state === "started") return;
  const isTool = step.kind === "tool";
  recorder.audit({
    ...auditOf(run, { result: step.state === "done" ? "ok" : "failed", state: step.state }),
    action: isTool ? "tool:call" : "agent:call",
    resource: resourceOf(agent, step),
    agent,
    taskId,
    ...(isTool && { tool: step.name }),
    ...(step.server !== undefined && { details: { server: step.server } }),
    ...(step.durationMs !== undefined && { durationMs: step.durationMs }),
  });
};

/** What was called: a tool, an agent of the organization, or one outside of it, which is told by its server. */
const resourceOf = (agent: string, { kind, name, server }: StepRecord): string => {
  if (kind === "tool") return `/agents/${agent}/tools/${name}/`;
  return server === undefined ? `/agents/${name}/` : `/externalAgents/${name}/`;
};

/** A failure of the agent's own: tried again where that may help and the policy allows it, else the end. */
const failure = (
  at: Recording,
  failed_: { readonly trace: TraceRecord | undefined; readonly message: JsonObject | undefined },
): RunOutcome | Promise<RunOutcome> => {
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

/** What becomes of a run whose artifact could not be kept: its store may be back later, a limit stays one. */
export const notStored = (at: Recording, error: AppError): RunOutcome | Promise<RunOutcome> | undefined => {
  const { code, message } = error;
  const text = publicMessageOf(error);
  if (code === "limit_reached") return failed(at, { code, message, text });
  if (!code.startsWith("storage_")) return undefined;
  const trace = { kind: "failure", code, message, retryable: error.kind === "operational" } as const;
  return failure(at, { trace, message: { parts: [{ text: `An artifact could not be kept. ${text}` }] } });
};

/** When to try again, or nothing when the policy or the run's deadline leaves no time for it. */
const nextAttempt = (run: LeasedRun, retryAfterMs: number | undefined): Date | undefined => {
  const attempt = run.attempts + 1;
  if (retryAfterMs === undefined && attempt >= Number(run.limits.maxAttempts ?? 1)) return undefined;
  const backoffMs = Number(run.limits.backoffSeconds ?? 1) * 1_000 * 2 ** (attempt - 1);
  const at = Date.now() + (retryAfterMs ?? backoffMs);
  return at < run.deadline.getTime() ? new Date(at) : undefined;
};

const textOf = (message: JsonObject | undefined): string | undefined => {
  const [part] = Array.isArray(message?.parts) ? message.parts : [];
  return typeof part === "object" && part !== null && "text" in part && typeof part.text === "string"
    ? part.text
    : undefined;
};
