import type { AgentEvent, BudgetLeft } from "@shaman/a2a-wire";
import type { Json, JsonObject } from "@shaman/kernel";
import type { ArtifactPayload, NoticePayload, StepRecord, StepUsage, WaitsFor } from "@shaman/runs";

/** Which limit a run hit, by the name it has in an agent file, or in the settings where it is one of all runs together. */
export type LimitName =
  | "maxSteps"
  | "maxToolCalls"
  | "maxTokens"
  | "maxCostUsd"
  | "timeoutSeconds"
  | "maxDepth"
  | "spend.monthlyUsd"
  | "monthlySpendUsd of the API key";

export type Failure = {
  readonly code: string;
  /** What the caller may read. */
  readonly publicMessage: string;
  /** What operators read. */
  readonly message: string;
  readonly retryable: boolean;
  readonly retryAfterMs?: number;
};

/** Why a task stops without being finished. It goes on, as the whole run does, from what is recorded. */
export type Suspension =
  /** A person has to say something; `parts` are what they are asked, as A2A Parts. */
  | { readonly kind: "person"; readonly waitsFor: WaitsFor; readonly parts: readonly JsonObject[] }
  | { readonly kind: "later"; readonly failure: Failure };

/**
 * What leaves the engine, in the order it happened. The last one is `completed`, `input_required`, `retry_later` (of a
 * called agent only) or `failed`.
 */
export type EngineEvent =
  | { readonly type: "artifact"; readonly chunk: ArtifactPayload }
  | { readonly type: "step"; readonly step: StepRecord }
  /** What a model call cost that gave no step: its place is that of the step it should have been. */
  | { readonly type: "usage"; readonly position: number; readonly usage: StepUsage }
  /** An event of a called agent, or of one that it calls: passed up as it came. */
  | { readonly type: "child"; readonly event: AgentEvent }
  | { readonly type: "notice"; readonly notice: NoticePayload }
  | { readonly type: "data"; readonly position: number; readonly name: string; readonly value: Json }
  /** The engine waits until all before this is committed. */
  | { readonly type: "commit" }
  | { readonly type: "input_required"; readonly waitsFor: WaitsFor; readonly parts: readonly JsonObject[] }
  | { readonly type: "retry_later"; readonly failure: Failure }
  /** `result` is what a calling agent is told; a task that no agent called has none. */
  | { readonly type: "completed"; readonly result?: { readonly text: string; readonly left: BudgetLeft } }
  | { readonly type: "failed"; readonly failure: Failure; readonly left?: BudgetLeft };
