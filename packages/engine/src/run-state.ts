import { hash } from "node:crypto";
import type { AgentDefinition } from "@shaman/agents";
import { canonicalJson, type Json, type JsonObject } from "@shaman/kernel";
import type { Media, Model, ModelMessage, ModelUsage, ToolCall } from "@shaman/llm";
import type { SharedValue, StepRecord } from "@shaman/runs";
import type { Tool, ToolSet } from "@shaman/tools";
import { z } from "zod";
import type { OutsideAgent, RemoteTask } from "@shaman/a2a-wire";
import type { AgentCalls } from "./agent-calls.ts";
import type { Budget, Meter } from "./budget.ts";
import type { EngineEvent, Suspension } from "./engine-event.ts";
import type { MediaRoom } from "./media.ts";
import { RunFailed } from "./run-failed.ts";

export type EngineDeps = {
  readonly model: Model;
  /** USD, or null where the model's price is not known. */
  readonly costUsd: (usage: ModelUsage, model: string) => number | null;
  /** Resolves once the step at this position is committed, and rejects when the signal is aborted first. */
  readonly whenRecorded: (position: number, signal: AbortSignal) => Promise<void>;
  /** Opens the agent's tools beyond the platform's own; they are closed when the attempt ends. */
  readonly openTools: (definition: AgentDefinition, signal: AbortSignal) => Promise<ToolSet>;
  /** Commits the start of a step under the run's lease, or throws: then the step may not happen. */
  readonly startStep: (start: {
    readonly position: number;
    readonly kind: "tool" | "call";
    readonly name: string;
    readonly inputHash: string;
    readonly input: Json;
    readonly child?: { readonly taskId: string; readonly agent: string };
  }) => Promise<void>;
  readonly calls: AgentCalls;
  readonly shared: {
    readonly find: (name: string) => Promise<SharedValue | undefined>;
    readonly list: () => Promise<readonly { readonly name: string; readonly agent: string }[]>;
    /** Resolves with the value once one of this name is committed, whoever wrote it. */
    readonly whenShared: (name: string, signal: AbortSignal) => Promise<SharedValue>;
  };
};

export type RunAgentInput = {
  readonly taskId: string;
  readonly definition: AgentDefinition;
  /** `provider/model`, aliases resolved. */
  readonly modelName: string;
  /** The A2A Message that the task answers. */
  readonly message: JsonObject;
  /** Earlier exchanges of the context, oldest first, for agents with `memory: context`. */
  readonly memory: readonly { readonly prompt: string; readonly answer: string }[];
  /** What earlier attempts recorded, in order. */
  readonly recorded: readonly StepRecord[];
  readonly budget: Budget;
  /** Milliseconds since 1970. */
  readonly deadline: number;
  /** How much of a tool's output a model is given. */
  readonly toolOutputBytes: number;
  /** The lease under which this attempt works; each claim of the run has the next higher one. */
  readonly leaseEpoch: number;
  /** Full names of the agents that led here, this one last. */
  readonly lineage: readonly string[];
  /** Set where another agent called this one; `attemptsLeft` is how often the whole run may still be tried again. */
  readonly parent: { readonly attemptsLeft: number } | undefined;
  readonly signal: AbortSignal;
};

export type RunState = {
  readonly deps: EngineDeps;
  readonly input: RunAgentInput;
  readonly recorded: ReadonlyMap<number, StepRecord>;
  readonly meter: Meter;
  readonly room: MediaRoom;
  readonly messages: ModelMessage[];
  /** The agent's tools beyond the platform's own, by name. */
  readonly tools: ReadonlyMap<string, Tool>;
  readonly signal: AbortSignal;
  /** What it handed over as artifacts, as text for an agent that called it. */
  readonly written: Map<number, string>;
  /** Tasks of outside agents that wait for an answer, by the name of the call in which they asked. */
  readonly asking: Map<string, { readonly outside: OutsideAgent; readonly remote: RemoteTask }>;
  position: number;
  turn: number;
  /** How often the model has been asked to mend its answer. */
  repairs: number;
  /** The last finished step that this attempt told of and that is not known to be committed. */
  untold: { readonly position: number; readonly kind: StepRecord["kind"] } | undefined;
};

/** One tool call of a model's answer, with its place among the task's steps. */
export type PlannedCall = {
  readonly call: ToolCall;
  readonly position: number;
  /** Of the approval that has to come before it. */
  readonly approvalPosition: number | undefined;
  /** Aborted as well when a call beside it ends the task. */
  readonly signal: AbortSignal;
  /** How many calls of this answer have not yet taken their share of the budget, this one included. */
  readonly waiting: { count: number };
};

/** What a step came to for the model, or why it came to nothing yet. */
export type StepEnd =
  | {
      readonly kind: "result";
      readonly text: string;
      readonly isError: boolean;
      /** What the text names as attachments, in their order. */
      readonly media?: readonly Media[];
    }
  | { readonly kind: "suspended"; readonly suspension: Suspension };

export type Events<R = void> = AsyncGenerator<EngineEvent, R, undefined>;

export const toolOutput = z.object({ text: z.string(), isError: z.boolean() });

/** What a step is recognized by in a replay: by then its values have come back from jsonb, their keys in another order. */
export const hashOf = (value: unknown): string => hash("sha256", canonicalJson(value), "base64url");

/** The event that tells of a step. From here on it counts as something that must be committed before what builds on it. */
export const tell = (state: RunState, step: StepRecord): EngineEvent => {
  if (step.state !== "started") state.untold = { position: step.position, kind: step.kind };
  return { type: "step", step };
};

/** Tells whoever follows the run what its agent has to do without. */
export function* tellProblems(problems: readonly string[]): Generator<EngineEvent, void, undefined> {
  for (const message of problems) yield { type: "notice", notice: { kind: "problem", message } };
}

/**
 * Waits until every step told so far is committed. Were a second model call under way while the first is not recorded,
 * one crash could cost two calls; and a step that began under an answer nobody recorded could not be recognized again.
 */
export async function* untilCommitted(state: RunState, signal: AbortSignal): Events {
  const { untold } = state;
  if (untold === undefined) return;
  // Steps of tools are committed at once anyway, answers of a model wait a moment for what comes with them.
  if (untold.kind === "model") yield { type: "commit" };
  await state.deps.whenRecorded(untold.position, signal);
  if (state.untold === untold) state.untold = undefined;
}

/** The recorded step at a position, if there is one; diverging from it would make a replay something else. */
export const recordedAt = (
  state: RunState,
  expected: { readonly position: number; readonly kind: string; readonly inputHash: string },
): StepRecord | undefined => {
  const step = state.recorded.get(expected.position);
  if (step === undefined) return undefined;
  if (step.kind !== expected.kind || step.inputHash !== expected.inputHash) {
    throw new RunFailed({
      code: "replay_diverged",
      message: `Step ${expected.position} was recorded as ${step.kind} ${step.name}, and the same task came to another one now`,
      publicMessage: "The run could not be continued after an interruption. Send the message again as a new task.",
      retryable: false,
    });
  }
  return step;
};
