import type { AuditEntry } from "@shaman/audit";
import type { Json, JsonObject } from "@shaman/kernel";
import type { RunEvent } from "./events.ts";
import type { TaskState } from "./states.ts";
import type { StepRecord, StepUsage } from "./step.ts";
import type { WaitsFor } from "./waits-for.ts";

/** What becomes of the run with this batch; absent, it goes on under the same lease. */
export type RunOutcome =
  | {
      readonly kind: "finished";
      readonly state: "completed" | "failed" | "canceled" | "rejected";
      readonly error?: JsonObject;
    }
  /** Waits for a person: no lease, no deadline running. */
  | { readonly kind: "suspended"; readonly on: "input" | "approval"; readonly waitsFor?: WaitsFor }
  /** Goes on later: a new wake, at that time. `counts` says whether it was an attempt of the agent's own. */
  | { readonly kind: "parked"; readonly retryAt: Date; readonly counts: "attempt" | "claim" | "nothing" };

export type ArtifactRecord = {
  readonly taskId: string;
  readonly artifactId: string;
  readonly name?: string;
  readonly description?: string;
  readonly parts: readonly JsonObject[];
  readonly metadata?: JsonObject;
  /** Of its content, where some of that lies in the store; else the parts are counted. */
  readonly bytes?: number;
};

/** A value that an agent shares with the others of its run. */
export type DataRecord = {
  readonly taskId: string;
  readonly agent: string;
  readonly position: number;
  readonly name: string;
  readonly value: Json;
};

/** What a model call used that gave no step. */
export type FailedCallRecord = {
  readonly taskId: string;
  readonly agent: string;
  /** Of the step that it should have been. */
  readonly position: number;
  readonly usage: StepUsage;
};

/** Everything one commit of the lease holder may contain. */
export type Batch = {
  readonly events: readonly (RunEvent & { readonly taskId: string })[];
  readonly tasks: readonly { readonly taskId: string; readonly state: TaskState; readonly message?: JsonObject }[];
  readonly steps: readonly (StepRecord & { readonly taskId: string; readonly agent: string })[];
  readonly artifacts: readonly ArtifactRecord[];
  readonly agentMessages: readonly { readonly taskId: string; readonly message: JsonObject }[];
  /** Messages that nobody has recorded at intake: an operator's answers. */
  readonly userMessages?: readonly { readonly taskId: string; readonly message: JsonObject }[];
  readonly data?: readonly DataRecord[];
  readonly failedCalls?: readonly FailedCallRecord[];
  readonly appliedCommands: readonly string[];
  readonly audit: readonly AuditEntry[];
  readonly outcome?: RunOutcome;
};

export type Lease = {
  readonly orgId: string;
  readonly runId: string;
  readonly epoch: number;
  readonly holder: string;
  readonly apiKeyId: string | null;
};
