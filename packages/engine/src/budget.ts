import type { StepUsage } from "@shaman/runs";
import type { Failure, LimitName } from "./engine-event.ts";

/** What a run may still use up. Steps are model calls. */
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
};

/** Counts what this attempt uses against what its token allows. A cost that is not known counts as nothing. */
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
