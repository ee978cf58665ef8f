import type { AuditEntry } from "@shaman/audit";
import type { Db } from "@shaman/db";
import { AppError, type JsonObject } from "@shaman/kernel";
import type { FanOut } from "@shaman/queue";
import { appendParts } from "./artifacts.ts";
import type { ArtifactPayload, RunEvent } from "./events.ts";
import { responseArtifactId, type OpenArtifact } from "./left-open.ts";
import {
  recordBatch,
  type ArtifactRecord,
  type Batch,
  type Lease,
  type Recorded,
  type RunOutcome,
} from "./record-batch.ts";
import { nudgeRun } from "./run-watcher.ts";
import { isTerminal, type TaskState } from "./states.ts";
import type { StepRecord } from "./step.ts";

export type RunRecorder = {
  /** A change of a task's state, which callers see. `lazy` lets it wait a moment for what comes with it. */
  readonly status: (change: {
    readonly taskId: string;
    readonly state: TaskState;
    readonly message?: JsonObject;
    readonly lazy?: boolean;
  }) => void;
  /** A piece of an artifact, A2A's TaskArtifactUpdateEvent. */
  readonly artifact: (taskId: string, chunk: ArtifactPayload) => void;
  /** An artifact that an earlier attempt began: withdrawn when its step, done again, does not begin it anew. */
  readonly leftOpen: (artifact: OpenArtifact) => void;
  readonly step: (agent: string, taskId: string, step: StepRecord) => void;
  readonly event: (taskId: string, event: RunEvent) => void;
  readonly applied: (commandId: string) => void;
  readonly audit: (entry: AuditEntry) => void;
  /** Commits everything so far together with what becomes of the run, and gives the lease back. */
  readonly finish: (outcome: RunOutcome) => Promise<Recorded>;
  /** Aborted, with the reason, as soon as a commit is refused or fails: stop working on the run. */
  readonly lost: AbortSignal;
};

export type RecorderOptions = {
  /** How long text may wait for more; 0 commits each piece as it comes and keeps it an event of its own. */
  readonly coalesceMs: number;
  readonly coalesceBytes: number;
};

/** The lease was taken by somebody else, or ran out. */
export const leaseLost = (runId: string): AppError =>
  new AppError({ code: "lease_lost", kind: "operational", message: `The lease on ${runId} is no longer ours` });

const LAZY_MS = 100;

type Pending = {
  events: (RunEvent & { readonly taskId: string })[];
  tasks: Map<string, Batch["tasks"][number]>;
  steps: Batch["steps"][number][];
  artifacts: ArtifactRecord[];
  agentMessages: Batch["agentMessages"][number][];
  appliedCommands: string[];
  audit: AuditEntry[];
  bytes: number;
};

const nothing = (): Pending => ({
  events: [],
  tasks: new Map(),
  steps: [],
  artifacts: [],
  agentMessages: [],
  appliedCommands: [],
  audit: [],
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
  const open = new Map<string, { readonly payload: ArtifactPayload; readonly parts: JsonObject[] }>();
  const leftOpen = new Set<string>();
  let pending = nothing();
  let timer: NodeJS.Timeout | undefined;
  let timerAt = Infinity;
  let immediate: NodeJS.Immediate | undefined;
  let committing: Promise<void> | undefined;
  // Whether something that came during a commit must not wait for more.
  let urgent = false;

  const commit = async (outcome?: RunOutcome): Promise<Recorded> => {
    const { tasks, bytes: _bytes, ...lists } = pending;
    pending = nothing();
    urgent = false;
    const batch: Batch = { ...lists, tasks: [...tasks.values()], ...(outcome !== undefined && { outcome }) };
    const recorded = await recordBatch(deps.db, lease, batch);
    if (recorded === undefined) throw leaseLost(lease.runId);
    if (batch.events.length > 0) nudgeRun(deps.fanOut, lease.runId, recorded.lastSeq);
    return recorded;
  };

  const drain = async (): Promise<void> => {
    try {
      await commit();
    } catch (error) {
      lost.abort(error);
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

  const collect = (taskId: string, chunk: ArtifactPayload): void => {
    const key = `${taskId}\n${chunk.artifactId}`;
    leftOpen.delete(key);
    const known = chunk.append ? open.get(key) : undefined;
    const parts = known?.parts ?? [];
    appendParts(parts, chunk.parts);
    const payload = known?.payload ?? chunk;
    if (!chunk.lastChunk) {
      open.set(key, { payload, parts });
      return;
    }
    open.delete(key);
    const { artifactId, name, description, metadata } = payload;
    // One statement writes them all, and may write each only once.
    const earlier = pending.artifacts.findIndex((each) => each.taskId === taskId && each.artifactId === artifactId);
    if (earlier !== -1) pending.artifacts.splice(earlier, 1);
    pending.artifacts.push({
      taskId,
      artifactId,
      parts,
      ...(name !== undefined && { name }),
      ...(description !== undefined && { description }),
      ...(metadata !== undefined && { metadata }),
    });
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
      collect(taskId, chunk);
      const last = pending.events.at(-1);
      if (options.coalesceMs > 0 && last?.taskId === taskId && mergesInto(last, chunk)) {
        appendParts(last.payload.parts, chunk.parts);
        last.payload.lastChunk = chunk.lastChunk;
      } else push(taskId, { type: "task.artifact", payload: { ...chunk, parts: [...chunk.parts] } });
      pending.bytes += chunk.parts.reduce(
        (sum, part) => sum + (typeof part.text === "string" ? part.text.length : 0),
        0,
      );
      soon(pending.bytes >= options.coalesceBytes ? 0 : options.coalesceMs);
    },
    leftOpen: ({ taskId, artifactId }) => void leftOpen.add(`${taskId}\n${artifactId}`),
    step: (agent, taskId, step) => {
      if (step.kind === "model") withdraw(taskId, responseArtifactId(step.position));
      pending.steps.push({ ...step, taskId, agent });
      push(taskId, { type: "step", payload: summaryOf(step) });
      // After the tools comes the next model call, which waits until everything before it is committed.
      soon(step.kind === "model" ? options.coalesceMs : 0);
    },
    event: (taskId, event) => {
      push(taskId, event);
      soon(0);
    },
    applied: (commandId) => void pending.appliedCommands.push(commandId),
    audit: (entry) => void pending.audit.push(entry),
    finish: async (outcome) => {
      clearTimers();
      await committing;
      clearTimers();
      if (lost.signal.aborted) throw lost.signal.reason;
      return commit(outcome);
    },
  };
};

type PendingArtifact = { readonly type: "task.artifact"; readonly payload: ArtifactPayload };

const mergesInto = (event: RunEvent, chunk: ArtifactPayload): event is PendingArtifact =>
  event.type === "task.artifact" &&
  chunk.append &&
  !event.payload.lastChunk &&
  event.payload.artifactId === chunk.artifactId;

const summaryOf = ({ position, kind, name, state, usage }: StepRecord) => ({
  position,
  kind,
  name,
  state,
  ...(usage !== undefined && {
    model: usage.model,
    inputTokens: usage.inputTokens,
    outputTokens: usage.outputTokens,
    costUsd: usage.costUsd,
  }),
});
