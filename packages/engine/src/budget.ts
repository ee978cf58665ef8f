import type { StepUsage } from "@shaman/runs";
import type { Failure, LimitName } from "./engine-event.ts";

/**
 * What a run may use. Steps are model calls. Steps and tool calls are those of the whole run, since a replay passes all of
 * them again; tokens and cost are what earlier attempts left over.
 */
export type Budget = {
  readonly steps: number;
  readonly toolCalls: number;
  readonly tokens: number;
  readonly costUsd: number;
};

export type Meter = {
  /** The limit that forbids one more model call, if any. */
  readonly beforeModel: () => LimitName | undefined;
  readonly beforeTools: (count: number) => LimitName | undefined;
  readonly afterModel: (usage: StepUsage) => void;
  /** A model call that an earlier attempt made and paid for. */
  readonly replayedModel: () => void;
};

/** Counts what the run uses against what its token allows. A cost that is not known counts as nothing. */
export const createMeter = (budget: Budget): Meter => {
  let { steps, toolCalls, tokens, costUsd } = budget;
  return {
    beforeModel: () => {
      if (steps <= 0) return "maxSteps";
      if (tokens <= 0) return "maxTokens";
      return costUsd <= 0 ? "maxCostUsd" : undefined;
    },
    beforeTools: (count) => {
      if (toolCalls < count) return "maxToolCalls";
      toolCalls -= count;
      return undefined;
    },
    replayedModel: () => {
      steps -= 1;
    },
    afterModel: (usage) => {
      steps -= 1;
      tokens -= usage.inputTokens + usage.outputTokens;
      costUsd -= usage.costUsd ?? 0;
    },
  };
};

/** The failure of a run that hit a limit. What it had so far is kept. */
export const limitReached = (limit: LimitName): Failure => {
  const message = `The run reached its limit ${limit}. What it had so far is kept; raise the limit in the agent's file or the organization's settings.`;
  return { code: "limit_reached", message, publicMessage: message, retryable: false };
};
