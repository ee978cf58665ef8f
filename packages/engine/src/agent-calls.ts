import type { AgentEvent, ExternalOutcome, ExternalProgress, OutsideAgent, RemoteTask } from "@shaman/a2a-wire";
import { parsedJsonObject, type ChildTask } from "@shaman/runs";
import type { Result } from "@shaman/kernel";
import type { ListedAgent } from "@shaman/tools";
import { z } from "zod";

/** An agent that can be called, at the commit that this run takes it from. */
export const callee = z.object({
  /** Its own name, as runs and lists show it. */
  name: z.string(),
  repositoryId: z.string(),
  path: z.string(),
  commit: z.string(),
  /** What its own file limits, by the names it has there. */
  limits: z.record(z.string(), z.number()),
});
export type Callee = z.output<typeof callee>;

/** Agent and place in one text, as ancestors are told apart. */
export const fullNameOf = (agent: { readonly repositoryId: string; readonly path: string }): string =>
  `${agent.repositoryId}:${agent.path}`;

/** What the row of a started call holds, so that any later attempt enters the same call again. */
export const startedCall = z.object({
  agent: z.string(),
  message: z.string(),
  callee,
  share: z.object({ steps: z.number(), toolCalls: z.number(), tokens: z.number(), costUsd: z.number() }),
});
export type StartedCall = z.output<typeof startedCall>;

/** Whom a name means. */
export type Found =
  | { readonly kind: "agent"; readonly callee: Callee }
  | { readonly kind: "outside"; readonly outside: OutsideAgent };

export type OutsideCall = {
  readonly outside: OutsideAgent;
  /** Of the step, from which the message's id derives. */
  readonly position: number;
  readonly text: string;
  readonly continues?: RemoteTask;
  /** Set when an earlier attempt began the call: what it recorded of the remote task. */
  readonly reentry?: RemoteTask;
  /** Milliseconds since 1970. */
  readonly deadline: number;
  readonly signal: AbortSignal;
  /** Whether the task has failed by then, so that nobody will ask for the answer again. */
  readonly isOver: () => boolean;
  /** Told on the way; what it says comes from strangers. */
  readonly tell: (progress: ExternalProgress) => void;
};

export type ChildCall = {
  readonly callee: Callee;
  readonly taskId: string;
  /** The same at every attempt. */
  readonly messageId: string;
  readonly text: string;
  readonly budget: {
    readonly steps: number;
    readonly toolCalls: number;
    readonly tokens: number;
    readonly costUsd: number;
    readonly depth: number;
  };
  /** Milliseconds since 1970. */
  readonly deadline: number;
  readonly signal: AbortSignal;
};

/** How an agent reaches others. */
export type AgentCalls = {
  /** Agents it may call; none, and `call_agent` is not offered. */
  readonly listed: readonly ListedAgent[];
  /** Whom a name means. An error is meant for the model. */
  readonly find: (name: string) => Promise<Result<Found>>;
  /** How far the task of an earlier call has come. */
  readonly findTask: (taskId: string) => Promise<ChildTask | undefined>;
  /**
   * Sends the task and gives its events, and those of the tasks below it. Closing the stream stops them all. Throws when
   * the stream breaks off: then nobody knows how far it came.
   */
  readonly send: (call: ChildCall) => AsyncGenerator<AgentEvent, void, undefined>;
  /**
   * Calls an outside agent, or enters such a call again. Rejects for faults of ours, and when the signal is aborted: by
   * then that agent has been asked to cancel, if the run is canceled or its task is over.
   */
  readonly callOutside: (call: OutsideCall) => Promise<ExternalOutcome>;
};

/** The text of a status message of an agent of ours. */
export const statusText = (message: unknown): string | undefined => {
  const parsed = parsedJsonObject.safeParse(message);
  const [part] = parsed.success && Array.isArray(parsed.data.parts) ? parsed.data.parts : [];
  return typeof part === "object" && part !== null && "text" in part && typeof part.text === "string"
    ? part.text
    : undefined;
};
