import type { JsonObject } from "@shaman/kernel";
import type { TaskState } from "@shaman/runs";

/** What an outside agent said, in the shapes of A2A 1.0, whichever version and binding it came in. */

export type ForeignArtifact = {
  readonly artifactId: string;
  readonly name?: string;
  readonly description?: string;
  /** A2A Parts. */
  readonly parts: readonly JsonObject[];
};

export type ForeignMessage = {
  readonly messageId: string;
  readonly contextId?: string;
  readonly taskId?: string;
  readonly role: "ROLE_USER" | "ROLE_AGENT";
  /** A2A Parts. */
  readonly parts: readonly JsonObject[];
};

export type ForeignStatus = { readonly state: TaskState; readonly message?: ForeignMessage };

export type ForeignTask = {
  readonly id: string;
  readonly contextId?: string;
  readonly status: ForeignStatus;
  readonly artifacts: readonly ForeignArtifact[];
  readonly history: readonly ForeignMessage[];
};

export type ForeignEvent =
  | { readonly kind: "task"; readonly task: ForeignTask }
  | { readonly kind: "message"; readonly message: ForeignMessage }
  | {
      readonly kind: "status";
      readonly taskId: string;
      readonly contextId?: string;
      readonly status: ForeignStatus;
    }
  | {
      readonly kind: "artifact";
      readonly taskId: string;
      readonly contextId?: string;
      readonly artifact: ForeignArtifact;
      readonly append: boolean;
      readonly lastChunk: boolean;
    };

/** A message to an outside agent, in A2A 1.0's words. */
export type OutgoingMessage = {
  readonly messageId: string;
  /** A2A Parts. */
  readonly parts: readonly JsonObject[];
  readonly metadata?: JsonObject;
  readonly contextId?: string;
  readonly taskId?: string;
};
