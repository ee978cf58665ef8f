import type { ArtifactPayload, StepRecord } from "@shaman/runs";

/** Which limit a run hit, by the name it has in an agent file. */
export type LimitName = "maxSteps" | "maxToolCalls" | "maxTokens" | "maxCostUsd" | "timeoutSeconds";

export type Failure = {
  readonly code: string;
  /** What the caller may read. */
  readonly publicMessage: string;
  /** What operators read. */
  readonly message: string;
  readonly retryable: boolean;
  readonly retryAfterMs?: number;
};

/** What leaves the engine, in the order it happened. The last one is `completed`, `input_required` or `failed`. */
export type EngineEvent =
  | { readonly type: "artifact"; readonly chunk: ArtifactPayload }
  | { readonly type: "step"; readonly step: StepRecord }
  | { readonly type: "input_required"; readonly question: string }
  | { readonly type: "completed" }
  | { readonly type: "failed"; readonly failure: Failure };
