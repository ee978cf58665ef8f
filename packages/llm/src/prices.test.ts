import { expect, test } from "vitest";

import { costUsd, listedPrices, priceTableSchema, withListedPrices } from "./prices.ts";

const usage = { inputTokens: 1_000_000, outputTokens: 100_000, cachedInputTokens: 400_000 };

test("cached input is charged at its own price and only once", () => {
  const prices = { "a/b": { input: 2, cached: 0.5, output: 8 } };
  expect(costUsd(usage, "a/b", prices)).toBeCloseTo(0.6 * 2 + 0.4 * 0.5 + 0.1 * 8, 10);
  expect(costUsd({ ...usage, cachedInputTokens: 9_000_000 }, "a/b", prices)).toBeCloseTo(0.5 + 0.8, 10);
});

test("the exact version that answered has the price of its model, unless it has one of its own", () => {
  const prices = { "a/b": { input: 1, cached: 1, output: 0 }, "a/b-2026-01-01": { input: 5, cached: 5, output: 0 } };
  expect(costUsd(usage, "a/b-2025-08-07", prices)).toBe(1);
  expect(costUsd(usage, "a/b-20250807", prices)).toBe(1);
  expect(costUsd(usage, "a/b-2026-01-01", prices)).toBe(5);
});

test("an unknown price is null, never zero; a scripted model is free unless it is priced", () => {
  expect(costUsd(usage, "openai/nobody-knows", listedPrices)).toBeNull();
  expect(costUsd(usage, "__proto__", listedPrices)).toBeNull();
  expect(costUsd(usage, "scripted/desk.yaml", listedPrices)).toBe(0);
  const priced = { "scripted/desk.yaml": { input: 1, cached: 1, output: 0 } };
  expect(costUsd(usage, "scripted/desk.yaml", priced)).toBe(1);
});

test("an organization's prices go before the listed ones", () => {
  const own = priceTableSchema.parse({ "openai/gpt-5": { input: 0, cached: 0, output: 1 } });
  expect(costUsd(usage, "openai/gpt-5", withListedPrices(own))).toBeCloseTo(0.1, 10);
  expect(costUsd(usage, "openai/gpt-5-mini", withListedPrices(own))).not.toBeNull();
  expect(priceTableSchema.safeParse({ "openai/gpt-5": { input: -1, cached: 0, output: 1 } }).success).toBe(false);
});

test("input written into the provider's cache has its own price, and without one costs what other input does", () => {
  const written = {
    inputTokens: 1_000_000,
    outputTokens: 0,
    cachedInputTokens: 200_000,
    cacheWriteInputTokens: 500_000,
  };
  const price = { input: 2, cached: 0.2, output: 8 };
  expect(costUsd(written, "a/b", { "a/b": price })).toBeCloseTo(0.8 * 2 + 0.2 * 0.2, 10);
  expect(costUsd(written, "a/b", { "a/b": { ...price, cacheWrite: 2.5 } })).toBeCloseTo(
    0.3 * 2 + 0.5 * 2.5 + 0.2 * 0.2,
    10,
  );
});
