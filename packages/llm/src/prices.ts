import { z } from "zod";

import listed from "../prices.json" with { type: "json" };
import type { ModelUsage } from "./model-port.ts";

const usdPerMillion = z.number().min(0).max(1_000_000);

const modelPrice = z.strictObject({
  input: usdPerMillion,
  cached: usdPerMillion,
  cacheWrite: usdPerMillion.optional(),
  output: usdPerMillion,
});

/**
 * Prices by `provider/model`, in USD per million tokens. `cached` is for input read from the provider's cache, `cacheWrite`
 * for input written into it: where it is absent, that costs what other input does.
 */
export const priceTableSchema = z.record(z.string().min(3).max(200), modelPrice);
export type PriceTable = z.infer<typeof priceTableSchema>;

const TOKENS_PER_PRICE = 1_000_000;

/** Providers name the version that answered: `gpt-5-2025-08-07`, `claude-sonnet-4-5-20250929`. */
const VERSION_DATE = /-(\d{4}-\d{2}-\d{2}|\d{8})$/;

/** The prices that come with the product. */
export const listedPrices: PriceTable = priceTableSchema.parse(listed.models);

/** An organization's prices before the listed ones. */
export const withListedPrices = (own: PriceTable): PriceTable => ({ ...listedPrices, ...own });

const priceOf = (model: string, prices: PriceTable): PriceTable[string] | undefined => {
  for (const name of [model, model.replace(VERSION_DATE, "")]) if (Object.hasOwn(prices, name)) return prices[name];
  return undefined;
};

/**
 * What a call cost in USD, or null when the model's price is unknown: unknown is never zero. A scripted model costs
 * nothing unless the table prices it. `model` is `provider/model`, with or without the version's date.
 */
export const costUsd = (usage: ModelUsage, model: string, prices: PriceTable): number | null => {
  const price = priceOf(model, prices);
  if (price === undefined) return model.startsWith("scripted/") ? 0 : null;
  const cached = Math.min(usage.cachedInputTokens, usage.inputTokens);
  const written = Math.min(usage.cacheWriteInputTokens ?? 0, usage.inputTokens - cached);
  const input =
    (usage.inputTokens - cached - written) * price.input +
    cached * price.cached +
    written * (price.cacheWrite ?? price.input);
  return (input + usage.outputTokens * price.output) / TOKENS_PER_PRICE;
};
