import type { BudgetLeft } from "@shaman/a2a-wire";
import type { ModelUsage } from "@shaman/llm";
import type { StepUsage } from "@shaman/runs";
import { RunFailed } from "./run-failed.ts";
import type { Failure, LimitName } from "./engine-event.ts";

/** A part of a budget that can be handed on and come back. */
export type Share = BudgetLeft;

/**
 * What a task and everything below it may use. Steps are model calls. Steps and tool calls are those of all attempts, since
 * a replay passes them again; tokens and cost are what earlier attempts left over.
 */
export type Budget = Share & {
  /** How many calls deep it may still go. */
  readonly depth: number;
  /** Which limit the cost comes from; absent, the agent's own. */
  readonly costLimit?: "organization" | "key" | undefined;
};

/** A model call before it is made. */
export type NextCall = {
  /** How many tokens it takes in at least. */
  readonly inputTokens: number;
  /** USD for so much, or null where the model's price is not known. */
  readonly costUsd: (usage: ModelUsage) => number | null;
};

export type Meter = {
  /** The limit that forbids this model call, if any: nothing is left, or less than it takes at the least. */
  readonly beforeModel: (next: NextCall) => LimitName | undefined;
  readonly beforeTools: (count: number) => LimitName | undefined;
  readonly afterModel: (usage: StepUsage) => void;
  /** A model call that gave no step: it is paid for, but no replay passes it. */
  readonly afterFailedModel: (usage: StepUsage) => void;
  /** A model call that an earlier attempt made and paid for. */
  readonly replayedModel: () => void;
  /** How much this model call may write, where so little is left that it matters. */
  readonly maxOutputTokens: (next: NextCall) => number | undefined;
  /** Takes a share for one of `waiting` calls out of what is left, so that the caller keeps enough to conclude. */
  readonly carve: (input: { readonly waiting: number; readonly atMost: Partial<Share> }) => Share | LimitName;
  /** Takes this much out, for a call that is entered again; a call that was replayed has paid its tokens before. */
  readonly take: (share: Partial<Share>) => void;
  readonly giveBack: (left: Partial<Share>) => void;
  readonly left: () => Share;
};

/** What a calling agent keeps of tokens and money, to make something of the answers. */
const KEPT = 0.1;
/** Below this, how long an answer may be is part of the budget; a small number is one that every model accepts. */
const SCARCE_TOKENS = 4_096;
const FEWEST_OUTPUT_TOKENS = 16;
/** Enough for the price of one to be exact. */
const MANY_TOKENS = 1_000_000;

const costName = (limit: Budget["costLimit"]): LimitName => {
  switch (limit) {
    case "organization":
      return "spend.monthlyUsd";
    case "key":
      return "monthlySpendUsd of the API key";
    case undefined:
      return "maxCostUsd";
  }
};

/** Counts what the task uses against what its token allows. A cost that is not known counts as nothing. */
export const createMeter = (budget: Budget): Meter => {
  let { steps, toolCalls, tokens, costUsd } = budget;
  const add = (share: Partial<Share>, sign: 1 | -1): void => {
    steps += sign * (share.steps ?? 0);
    toolCalls += sign * (share.toolCalls ?? 0);
    tokens += sign * (share.tokens ?? 0);
    costUsd += sign * (share.costUsd ?? 0);
  };
  const pay = (usage: StepUsage): void => {
    tokens -= usage.inputTokens + usage.outputTokens;
    costUsd -= usage.costUsd ?? 0;
  };
  const forbidding = ({ inputTokens, costUsd: priceOf }: NextCall): LimitName | undefined => {
    if (steps <= 0) return "maxSteps";
    if (tokens <= inputTokens) return "maxTokens";
    const least = priceOf({ inputTokens, cachedInputTokens: inputTokens, outputTokens: 1 }) ?? 0;
    return costUsd <= 0 || least > costUsd ? costName(budget.costLimit) : undefined;
  };
  /** The output tokens that are left when the input is paid. */
  const leftForOutput = ({ inputTokens, costUsd: priceOf }: NextCall): number => {
    const each = (priceOf({ inputTokens: 0, cachedInputTokens: 0, outputTokens: MANY_TOKENS }) ?? 0) / MANY_TOKENS;
    const input = priceOf({ inputTokens, cachedInputTokens: inputTokens, outputTokens: 0 }) ?? 0;
    return Math.floor(Math.min(tokens - inputTokens, each > 0 ? (costUsd - input) / each : Infinity));
  };
  return {
    beforeModel: forbidding,
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
      pay(usage);
    },
    afterFailedModel: pay,
    maxOutputTokens: (next) => {
      const most = leftForOutput(next);
      return most < SCARCE_TOKENS ? Math.max(most, FEWEST_OUTPUT_TOKENS) : undefined;
    },
    carve: ({ waiting, atMost }) => {
      const part = (1 - KEPT) / waiting;
      const share = {
        steps: Math.min(Math.floor((steps - 1) / waiting), atMost.steps ?? Infinity),
        toolCalls: Math.min(Math.floor(toolCalls / waiting), atMost.toolCalls ?? Infinity),
        tokens: Math.min(Math.floor(tokens * part), atMost.tokens ?? Infinity),
        costUsd: Math.min(costUsd * part, atMost.costUsd ?? Infinity),
      };
      if (share.steps < 1) return "maxSteps";
      if (share.tokens < 1) return "maxTokens";
      if (share.costUsd <= 0) return costName(budget.costLimit);
      add(share, -1);
      return share;
    },
    take: (share) => add(share, -1),
    giveBack: (left) => add(left, 1),
    left: () => ({
      steps: Math.max(0, steps),
      toolCalls: Math.max(0, toolCalls),
      tokens: Math.max(0, Math.floor(tokens)),
      costUsd: Math.max(0, costUsd),
    }),
  };
};

/** The failure of a run that hit a limit. What it had so far is kept. */
export const limitReached = (limit: LimitName): Failure => {
  const message = `The run reached its limit ${limit}. What it had so far is kept; raise the limit in the agent's file or the organization's settings.`;
  return { code: "limit_reached", message, publicMessage: message, retryable: false };
};

export const refuse = (limit: LimitName | undefined): void => {
  if (limit !== undefined) throw new RunFailed(limitReached(limit));
};
