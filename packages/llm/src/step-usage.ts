import type { BilledUsage, ModelEvent, ModelUsage } from "./model-port.ts";

/** What a model step used: the answer's tokens, and those of models of the list that broke off before it. */
export type ModelStepUsage = {
  readonly model: string;
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly cachedInputTokens: number;
  /** USD; null where the price of one of them is not known. */
  readonly costUsd: number | null;
};

/** Prices one model's tokens. */
type CostUsd = (usage: ModelUsage, model: string) => number | null;

/** Adds up what an answer used, under the model that gave it. */
export const modelStepUsage = (done: Extract<ModelEvent, { type: "done" }>, costUsd: CostUsd): ModelStepUsage => {
  let { inputTokens, outputTokens, cachedInputTokens } = done.usage;
  let cost = done.notes?.cached === true ? 0 : costUsd(done.usage, done.model);
  for (const { model, usage } of done.billed ?? []) {
    inputTokens += usage.inputTokens;
    outputTokens += usage.outputTokens;
    cachedInputTokens += usage.cachedInputTokens;
    const price = costUsd(usage, model);
    cost = cost === null || price === null ? null : cost + price;
  }
  return { model: done.model, inputTokens, outputTokens, cachedInputTokens, costUsd: cost };
};

/** What a call used that gave no answer, for each model that counted something. */
export const billedStepUsage = (billed: readonly BilledUsage[], costUsd: CostUsd): readonly ModelStepUsage[] =>
  billed.map(({ model, usage }) => ({
    model,
    inputTokens: usage.inputTokens,
    outputTokens: usage.outputTokens,
    cachedInputTokens: usage.cachedInputTokens,
    costUsd: costUsd(usage, model),
  }));
