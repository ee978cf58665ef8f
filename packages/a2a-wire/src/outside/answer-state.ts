import type { SupportedInterface } from "@shaman/external";
import type { JsonObject } from "@shaman/kernel";
import { isInterrupted, isTerminal, type TaskState, type TerminalState } from "@shaman/runs";
import { answerInvalid, answerTooLarge } from "./external-error.ts";
import type { ForeignArtifact, ForeignEvent, ForeignMessage, ForeignStatus, ForeignTask } from "./wire-shapes.ts";

/** The task at the outside agent, as far as it is known: record it to find the task again after a crash. */
export type RemoteTask = { readonly taskId?: string; readonly contextId?: string };

/** What happened outside. Everything in it is data from strangers: bounded, and never to be taken as instructions. */
export type ExternalProgress =
  /** The message certainly did not arrive by one interface, and goes out by the next. */
  | {
      readonly kind: "fallback";
      readonly remote: RemoteTask;
      readonly from: SupportedInterface;
      readonly to: SupportedInterface;
    }
  /** Nothing answers at an interface, or without `at` where the card is: nothing arrived, and it is tried again for a while. */
  | { readonly kind: "unreachable"; readonly remote: RemoteTask; readonly at?: SupportedInterface }
  | {
      readonly kind: "progress";
      readonly remote: RemoteTask;
      readonly state: TaskState;
      readonly message?: ForeignMessage;
    }
  | {
      readonly kind: "artifact";
      readonly remote: RemoteTask;
      readonly artifact: ForeignArtifact;
      /** True: these parts come behind those that were sent before. False: this is the whole artifact so far. */
      readonly append: boolean;
      readonly lastChunk: boolean;
    };

/** How the task stands when there is nothing more to wait for. */
export type Settled =
  | { readonly kind: "message"; readonly message: ForeignMessage }
  | {
      readonly kind: "task";
      readonly state: TerminalState;
      readonly message?: ForeignMessage;
      readonly artifacts: readonly ForeignArtifact[];
    }
  | {
      readonly kind: "interrupted";
      readonly state: "input_required" | "auth_required";
      readonly message?: ForeignMessage;
      readonly artifacts: readonly ForeignArtifact[];
    };

export type AnswerLimits = {
  readonly maxEvents: number;
  readonly maxArtifacts: number;
  readonly maxPartsAnArtifact: number;
  /** Of all parts together, as JSON. */
  readonly maxBytes: number;
};

export type AnswerState = {
  /** Takes what the agent sent, checks that it belongs here, and gives what is new in it. */
  readonly absorb: (event: ForeignEvent) => readonly ExternalProgress[];
  /** A snapshot that may be older than the message just sent: its waiting is no answer yet. */
  readonly absorbOld: (event: ForeignEvent) => readonly ExternalProgress[];
  /** Nothing newer comes: a waiting that was taken for old is the answer after all. */
  readonly confirm: () => void;
  readonly remote: () => RemoteTask;
  /** Whether anything has come. */
  readonly hasBegun: () => boolean;
  readonly settled: () => Settled | undefined;
};

const bytesOf = (parts: readonly JsonObject[]): number => Buffer.byteLength(JSON.stringify(parts));

type Held = { readonly about: Omit<ForeignArtifact, "parts">; readonly parts: JsonObject[]; bytes: number };

const heldOf = ({ parts, ...about }: ForeignArtifact): Held => ({ about, parts: [...parts], bytes: bytesOf(parts) });
const artifactOf = ({ about, parts }: Held): ForeignArtifact => ({ ...about, parts: [...parts] });

/** The artifacts of one answer, within their limits. Streamed text comes in thousands of parts, so none is looked at twice. */
const createArtifacts = (limits: AnswerLimits) => {
  const held = new Map<string, Held>();
  let total = 0;
  const check = (changed: Held): void => {
    if (total > limits.maxBytes) throw answerTooLarge(`its artifacts have more than ${limits.maxBytes} bytes`);
    if (held.size > limits.maxArtifacts) throw answerTooLarge(`it has more than ${limits.maxArtifacts} artifacts`);
    if (changed.parts.length > limits.maxPartsAnArtifact) {
      throw answerTooLarge(`an artifact has more than ${limits.maxPartsAnArtifact} parts`);
    }
  };
  const keep = (artifact: ForeignArtifact): void => {
    const next = heldOf(artifact);
    total += next.bytes - (held.get(artifact.artifactId)?.bytes ?? 0);
    held.set(artifact.artifactId, next);
    check(next);
  };
  return {
    /** False when it says nothing new. */
    replace: (artifact: ForeignArtifact): boolean => {
      const before = held.get(artifact.artifactId);
      if (before !== undefined && JSON.stringify(artifactOf(before)) === JSON.stringify(artifactOf(heldOf(artifact)))) {
        return false;
      }
      keep(artifact);
      return true;
    },
    /** False when there is nothing to append to, so that it is a new one. */
    append: (artifact: ForeignArtifact): boolean => {
      const before = held.get(artifact.artifactId);
      if (before === undefined) {
        keep(artifact);
        return false;
      }
      const bytes = bytesOf(artifact.parts);
      for (const part of artifact.parts) before.parts.push(part);
      before.bytes += bytes;
      total += bytes;
      check(before);
      return true;
    },
    list: (): readonly ForeignArtifact[] => [...held.values()].map(artifactOf),
  };
};

/** Follows one task at an outside agent. `expected` are the ids that are known already. */
export const createAnswerState = (limits: AnswerLimits, expected: RemoteTask): AnswerState => {
  const artifacts = createArtifacts(limits);
  let { taskId, contextId } = expected;
  let status: ForeignStatus | undefined;
  let isOld = false;
  let answer: ForeignMessage | undefined;
  let events = 0;

  const remote = (): RemoteTask => ({
    ...(taskId !== undefined && { taskId }),
    ...(contextId !== undefined && { contextId }),
  });

  const belongs = (ids: { readonly taskId?: string; readonly contextId?: string }): void => {
    if (ids.taskId !== undefined) {
      if (taskId !== undefined && taskId !== ids.taskId) throw answerInvalid("it belongs to another task");
      taskId = ids.taskId;
    }
    if (ids.contextId !== undefined) {
      if (contextId !== undefined && contextId !== ids.contextId) throw answerInvalid("it belongs to another context");
      contextId = ids.contextId;
    }
  };

  const moveTo = (next: ForeignStatus, isFirst: boolean): readonly ExternalProgress[] => {
    const isNew = isFirst || status?.state !== next.state || next.message !== undefined;
    if (status !== undefined && isTerminal(status.state)) return [];
    status = next;
    if (!isNew) return [];
    const { message } = next;
    return [{ kind: "progress", remote: remote(), state: next.state, ...(message !== undefined && { message }) }];
  };

  const absorbTask = (task: ForeignTask): readonly ExternalProgress[] => {
    const isFirst = taskId === undefined || status === undefined;
    belongs({ taskId: task.id, ...(task.contextId !== undefined && { contextId: task.contextId }) });
    const isSame = status?.state === task.status.state && status.message?.messageId === task.status.message?.messageId;
    const changed = task.artifacts.filter((artifact) => artifacts.replace(artifact));
    const moved = isSame ? [] : moveTo(task.status, isFirst);
    const written = changed.map(
      (artifact) => ({ kind: "artifact", remote: remote(), artifact, append: false, lastChunk: false }) as const,
    );
    return isTerminal(task.status.state) ? [...written, ...moved] : [...moved, ...written];
  };

  const absorbMessage = (message: ForeignMessage): readonly ExternalProgress[] => {
    // Beside a task it is talk; alone it is the whole answer.
    const isTalk = taskId !== undefined && status !== undefined;
    belongs({ ...message });
    if (bytesOf(message.parts) > limits.maxBytes) throw answerTooLarge(`it has more than ${limits.maxBytes} bytes`);
    if (!isTalk) {
      answer = message;
      return [];
    }
    return [{ kind: "progress", remote: remote(), state: status?.state ?? "working", message }];
  };

  const absorbEvent = (event: ForeignEvent): readonly ExternalProgress[] => {
    events += 1;
    if (events > limits.maxEvents) throw answerTooLarge(`it has more than ${limits.maxEvents} events`);
    switch (event.kind) {
      case "task":
        return absorbTask(event.task);
      case "message":
        return absorbMessage(event.message);
      case "status": {
        const isFirst = status === undefined;
        belongs(event);
        return moveTo(event.status, isFirst);
      }
      case "artifact": {
        belongs(event);
        const { artifact, lastChunk } = event;
        const append = event.append && artifacts.append(artifact);
        if (!event.append) artifacts.replace(artifact);
        return [{ kind: "artifact", remote: remote(), artifact, append, lastChunk }];
      }
    }
  };

  return {
    absorb: (event) => {
      const given = absorbEvent(event);
      // An artifact says nothing about whether the task still waits.
      if (event.kind !== "artifact") isOld = false;
      return given;
    },
    absorbOld: (event) => {
      const given = absorbEvent(event);
      isOld = true;
      return given;
    },
    confirm: () => {
      isOld = false;
    },
    remote,
    hasBegun: () => events > 0,
    settled: () => {
      if (answer !== undefined) return { kind: "message", message: answer };
      if (status === undefined) return undefined;
      const { state, message } = status;
      const about = { ...(message !== undefined && { message }), artifacts: artifacts.list() };
      if (isTerminal(state)) return { kind: "task", state, ...about };
      if (isOld || !isInterrupted(state)) return undefined;
      return { kind: "interrupted", state: state === "auth_required" ? state : "input_required", ...about };
    },
  };
};
