import { describe, expect, test } from "vitest";
import { createMeter, type NextCall } from "./budget.ts";

const BUDGET = { steps: 10, toolCalls: 9, tokens: 10_000, costUsd: 1, depth: 5 };

/** Of a model that costs a cent for a thousand tokens in, a tenth of that from the cache, and ten cents for a thousand out. */
const call = (inputTokens: number): NextCall => ({
  inputTokens,
  costUsd: (usage) =>
    (usage.inputTokens - usage.cachedInputTokens + usage.cachedInputTokens / 10 + usage.outputTokens * 10) / 100_000,
});
const unpriced: NextCall = { inputTokens: 10, costUsd: () => null };

describe("a share of a budget", () => {
  test("leaves the caller a step and a tenth to conclude with, however many are called at once", () => {
    for (const calls of [1, 2, 3, 9]) {
      const meter = createMeter(BUDGET);
      for (let waiting = calls; waiting > 0; waiting -= 1) {
        expect(meter.carve({ waiting, atMost: {} })).toMatchObject({ steps: expect.any(Number) });
      }
      expect(meter.beforeModel(call(10))).toBeUndefined();
      expect(meter.left().steps).toBeGreaterThanOrEqual(1);
      expect(meter.left().tokens).toBeGreaterThan(0);
    }
  });

  test("is never more than the called agent's own file allows", () => {
    const share = createMeter(BUDGET).carve({ waiting: 1, atMost: { steps: 2, tokens: 500, costUsd: 0.1 } });
    expect(share).toEqual({ steps: 2, toolCalls: 9, tokens: 500, costUsd: 0.1 });
  });

  test("comes back as far as it was not used", () => {
    const meter = createMeter(BUDGET);
    const share = meter.carve({ waiting: 1, atMost: {} });
    if (typeof share === "string") throw new Error(share);
    meter.giveBack({ ...share, steps: share.steps - 3, tokens: share.tokens - 700 });
    expect(meter.left()).toEqual({ steps: 7, toolCalls: 9, tokens: 9_300, costUsd: 1 });
  });

  test.each([
    ["maxSteps", { ...BUDGET, steps: 1 }],
    ["maxTokens", { ...BUDGET, tokens: 1 }],
    ["maxCostUsd", { ...BUDGET, costUsd: 0 }],
    ["spend.monthlyUsd", { ...BUDGET, costUsd: 0, costLimit: "organization" as const }],
    ["monthlySpendUsd of the API key", { ...BUDGET, costUsd: 0, costLimit: "key" as const }],
  ])("is refused by the name %s where nothing is left to share", (limit, budget) => {
    expect(createMeter(budget).carve({ waiting: 1, atMost: {} })).toBe(limit);
  });
});

test("an answer may be no longer than the tokens that are left, once they are scarce", () => {
  expect(createMeter(BUDGET).maxOutputTokens(call(0))).toBeUndefined();
  expect(createMeter({ ...BUDGET, tokens: 300 }).maxOutputTokens(call(100))).toBe(200);
  expect(createMeter({ ...BUDGET, tokens: 3 }).maxOutputTokens(unpriced)).toBe(16);
});

test("and no longer than the money that is left, once the question is paid", () => {
  expect(createMeter({ ...BUDGET, costUsd: 0.101 }).maxOutputTokens(call(1_000))).toBe(1_000);
  expect(createMeter({ ...BUDGET, costUsd: 0.101 }).maxOutputTokens(unpriced)).toBeUndefined();
});

test.each([
  ["maxTokens", { tokens: 100 }, call(100)],
  ["maxTokens", { tokens: 0 }, unpriced],
  ["maxCostUsd", { costUsd: 0.001 }, call(1_000)],
  ["maxCostUsd", { costUsd: 0 }, unpriced],
  ["spend.monthlyUsd", { costUsd: 0.001, costLimit: "organization" as const }, call(1_000)],
])("a call that takes more than is left is refused by the name %s before it is made", (limit, left, next) => {
  expect(createMeter({ ...BUDGET, ...left }).beforeModel(next)).toBe(limit);
});

test("a call that may fit is made", () => {
  expect(createMeter({ ...BUDGET, tokens: 101, costUsd: 0.0012 }).beforeModel(call(100))).toBeUndefined();
});
