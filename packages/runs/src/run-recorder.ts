import type { AuditEntry } from "@shaman/audit";
import type { Db } from "@shaman/db";
import { AppError, GONE, type JsonObject } from "@shaman/kernel";
import type { FanOut } from "@shaman/queue";
import { createArtifactIntake, type ArtifactStorage, type TakenChunk } from "./artifact-intake.ts";
import { appendParts } from "./artifacts.ts";
import type { ArtifactPayload, RunEvent } from "./events.ts";
import { responseArtifactId, type OpenArtifact } from "./left-open.ts";
import type { ArtifactRecord, Batch, DataRecord, FailedCallRecord, Lease, RunOutcome } from "./batch.ts";
import { recordBatch, type Recorded } from "./record-batch.ts";
import { nudgeRun } from "./run-watcher.ts";
import { isTerminal, type TaskState } from "./states.ts";
import type { StepRecord } from "./step.ts";
import { tellAnswer } from "./told-answer.ts";

export type RunRecorder = {
  /** A change of a task's state, which callers see. `lazy` lets it wait a moment for what comes with it. */
  readonly status: (change: {
    readonly taskId: string;
    readonly state: TaskState;
    readonly message?: JsonObject;
    readonly lazy?: boolean;
  }) => void;
  /**
   * A piece of an artifact, A2A's TaskArtifactUpdateEvent. A promise means that it is on its way to the store: nothing
   * that came after it may be told before that. Throws or rejects when it cannot be kept.
   */
  readonly artifact: (taskId: string, chunk: ArtifactPayload) => Promise<void> | undefined;
  /** An artifact that an earlier attempt began: withdrawn when its step, done again, does not begin it anew. */
  readonly leftOpen: (artifact: OpenArtifact) => void;
  readonly step: (agent: string, taskId: string, step: StepRecord) => void;
  /** What a model call used that gave no step. It is committed with what becomes of its task, which comes next. */
  readonly usage: (call: FailedCallRecord) => void;
  readonly event: (taskId: string, event: RunEvent) => void;
  readonly applied: (commandId: string) => void;
  readonly audit: (entry: AuditEntry) => void;
  readonly data: (record: DataRecord) => void;
  /** Somebody waits until what came so far is committed. */
  readonly commitNow: () => void;
  /** Gives up what is on its way to the store, where the run will not be finished here. */
  readonly abandon: () => void;
  /** Commits everything so far together with what becomes of the run, and gives the lease back. */
  readonly finish: (outcome: RunOutcome) => Promise<Recorded>;
  /** Aborted, with the reason, as soon as a commit is refused or fails: stop working on the run. */
  readonly lost: AbortSignal;
};

export type RecorderOptions = {
  /** How long text may wait for more; 0 commits each piece as it comes and keeps it an event of its own. */
  readonly coalesceMs: number;
  readonly coalesceBytes: number;
  /** Where content goes that is too large for a row; without it everything is kept in rows. */
  readonly artifacts?: ArtifactStorage;
};

/** The lease was taken by somebody else, or ran out. */
export const leaseLost = (runId: string): AppError =>
  new AppError({ code: "lease_lost", kind: "operational", message: `The lease on ${runId} is no longer ours` });

const LAZY_MS = 100;

type Pending = {
  events: (RunEvent & { readonly taskId: string })[];
  tasks: Map<string, Batch["tasks"][number]>;
  steps: Map<string, Batch["steps"][number]>;
  artifacts: ArtifactRecord[];
  agentMessages: Batch["agentMessages"][number][];
  appliedCommands: string[];
  audit: AuditEntry[];
  data: DataRecord[];
  failedCalls: FailedCallRecord[];
  bytes: number;
};

const nothing = (): Pending => ({
  events: [],
  tasks: new Map(),
  steps: new Map(),
  artifacts: [],
  agentMessages: [],
  appliedCommands: [],
  audit: [],
  data: [],
  failedCalls: [],
  bytes: 0,
});

/**
 * Collects what happens in a run and commits it in small batches, one at a time: what arrives while a commit is under
 * way goes with the next one. Readers are nudged after each commit, never before.
 */
export const createRunRecorder = (
  deps: { readonly db: Db; readonly fanOut: FanOut },
  lease: Lease,
  options: RecorderOptions,
): RunRecorder => {
  const lost = new AbortController();
  const intake = createArtifactIntake(deps, lease, options.artifacts);
  const leftOpen = new Set<string>();
  let pending = nothing();
  let timer: NodeJS.Timeout | undefined;
  let timerAt = Infinity;
  let immediate: NodeJS.Immediate | undefined;
  let committing: Promise<void> | undefined;
  // Whether something that came during a commit must not wait for more.
  let urgent = false;

  const commit = async (outcome?: RunOutcome): Promise<Recorded> => {
    const { tasks, steps, bytes: _bytes, ...lists } = pending;
    pending = nothing();
    urgent = false;
    const batch: Batch = {
      ...lists,
      tasks: [...tasks.values()],
      steps: [...steps.values()],
      ...(outcome !== undefined && { outcome }),
    };
    const recorded = await recordBatch(deps.db, lease, batch);
    if (recorded === undefined) throw leaseLost(lease.runId);
    const goesOn = outcome === undefined;
    const answer = goesOn ? undefined : tellAnswer(batch, recorded);
    if (batch.events.length > 0) nudgeRun(deps.fanOut, { runId: lease.runId, seq: recorded.lastSeq, goesOn, answer });
    return recorded;
  };

  const drain = async (): Promise<void> => {
    try {
      await commit();
    } catch (error) {
      lost.abort(error);
      intake.abandon(error);
    } finally {
      committing = undefined;
    }
    if (pending.events.length > 0 && !lost.signal.aborted) soon(urgent ? 0 : options.coalesceMs);
  };

  const flush = (): void => {
    clearTimers();
    if (committing !== undefined || lost.signal.aborted) return;
    committing = drain();
  };

  const clearTimers = (): void => {
    clearTimeout(timer);
    clearImmediate(immediate);
    timer = undefined;
    immediate = undefined;
    timerAt = Infinity;
  };

  const soon = (delayMs: number): void => {
    urgent ||= delayMs === 0;
    if (immediate !== undefined || committing !== undefined) return;
    if (delayMs === 0) {
      immediate = setImmediate(flush);
      return;
    }
    const at = Date.now() + delayMs;
    if (at >= timerAt) return;
    clearTimeout(timer);
    timerAt = at;
    timer = setTimeout(flush, delayMs);
  };

  const push = (taskId: string, event: RunEvent): void => {
    pending.events.push({ ...event, taskId });
  };

  /** Readers have its first words, and A2A has no way to take an artifact back: it becomes empty. */
  const withdraw = (taskId: string, artifactId: string): void => {
    if (!leftOpen.delete(`${taskId}\n${artifactId}`)) return;
    const payload = { artifactId, name: "response", parts: [{ text: "" }], append: false, lastChunk: true };
    push(taskId, { type: "task.artifact", payload });
  };

  const tell = (taskId: string, { event, record }: TakenChunk): void => {
    if (record !== undefined) {
      // One statement writes them all, and may write each only once.
      const { artifactId } = record;
      const earlier = pending.artifacts.findIndex((each) => each.taskId === taskId && each.artifactId === artifactId);
      if (earlier !== -1) pending.artifacts.splice(earlier, 1);
      pending.artifacts.push(record);
    }
    if (event === undefined) return;
    const last = pending.events.at(-1);
    if (options.coalesceMs > 0 && last?.taskId === taskId && mergesInto(last, event)) {
      appendParts(last.payload.parts, event.parts);
      last.payload.lastChunk = event.lastChunk;
    } else push(taskId, { type: "task.artifact", payload: { ...event, parts: [...event.parts] } });
    pending.bytes += event.parts.reduce((sum, part) => sum + (typeof part.text === "string" ? part.text.length : 0), 0);
    soon(pending.bytes >= options.coalesceBytes ? 0 : options.coalesceMs);
  };

  return {
    lost: lost.signal,
    status: ({ taskId, state, message, lazy }) => {
      const timestamp = new Date().toISOString();
      push(taskId, { type: "task.status", payload: { state, timestamp, ...(message !== undefined && { message }) } });
      pending.tasks.set(taskId, { taskId, state, ...(message !== undefined && { message }) });
      if (message !== undefined && !isTerminal(state)) pending.agentMessages.push({ taskId, message });
      soon(lazy === true ? LAZY_MS : 0);
    },
    artifact: (taskId, chunk) => {
      leftOpen.delete(`${taskId}\n${chunk.artifactId}`);
      const taken = intake.take(taskId, chunk);
      if (taken instanceof Promise) return taken.then((whole) => tell(taskId, whole));
      tell(taskId, taken);
      return undefined;
    },
    leftOpen: ({ taskId, artifactId }) => void leftOpen.add(`${taskId}\n${artifactId}`),
    step: (agent, taskId, step) => {
      if (step.kind === "model") withdraw(taskId, responseArtifactId(step.position));
      // One statement cannot write a row twice: a step that began and ended within one batch is one that ended.
      pending.steps.set(`${taskId}\n${step.position}`, { ...step, taskId, agent });
      push(taskId, { type: "step", payload: summaryOf(step) });
      // After the tools comes the next model call, which waits until everything before it is committed.
      soon(step.kind === "model" ? options.coalesceMs : 0);
    },
    usage: (call) => void pending.failedCalls.push(call),
    event: (taskId, event) => {
      const last = pending.events.at(-1);
      const joined = options.coalesceMs > 0 && last?.taskId === taskId ? joinTexts(last, event) : undefined;
      if (joined === undefined) push(taskId, event);
      else pending.events[pending.events.length - 1] = { ...joined, taskId };
      soon(event.type === "notice" ? options.coalesceMs : 0);
    },
    applied: (commandId) => void pending.appliedCommands.push(commandId),
    audit: (entry) => void pending.audit.push(entry),
    data: (record) => {
      pending.data.push(record);
      push(record.taskId, { type: "data", payload: { name: record.name, agent: record.agent } });
      soon(0);
    },
    commitNow: () => {
      if (pending.events.length > 0) soon(0);
    },
    abandon: () => intake.abandon(GONE),
    finish: async (outcome) => {
      intake.abandon(GONE);
      clearTimers();
      await committing;
      clearTimers();
      if (lost.signal.aborted) throw lost.signal.reason;
      return commit(outcome);
    },
  };
};

/** One notice for two, where the second continues the text of the first. */
const joinTexts = (first: RunEvent, second: RunEvent): RunEvent | undefined => {
  if (first.type !== "notice" || second.type !== "notice") return undefined;
  const [before, after] = [first.payload, second.payload];
  const continues = before.kind === "text" && after.kind === "text" && after.append === true;
  if (!continues || before.position !== after.position || before.artifact !== after.artifact) return undefined;
  return { type: "notice", payload: { ...before, message: `${before.message ?? ""}${after.message ?? ""}` } };
};

type PendingArtifact = { readonly type: "task.artifact"; readonly payload: ArtifactPayload };

const mergesInto = (event: RunEvent, chunk: ArtifactPayload): event is PendingArtifact =>
  event.type === "task.artifact" &&
  chunk.append &&
  !event.payload.lastChunk &&
  event.payload.artifactId === chunk.artifactId;

const summaryOf = ({ position, kind, name, state, usage, childTaskId, server, durationMs }: StepRecord) => ({
  position,
  kind,
  name,
  state,
  ...(childTaskId !== undefined && { childTaskId }),
  ...(server !== undefined && { server }),
  ...(durationMs !== undefined && { durationMs }),
  ...(usage !== undefined && {
    model: usage.model,
    inputTokens: usage.inputTokens,
    outputTokens: usage.outputTokens,
    costUsd: usage.costUsd,
  }),
});
