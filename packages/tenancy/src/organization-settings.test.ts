import { unwrap } from "@shaman/kernel";
import { describe, expect, test } from "vitest";
import { changeSettings, defaultSettings, modelsNamed, readSettings } from "./organization-settings.ts";

describe("an organization's settings", () => {
  test("are the documented limits where nothing is set", () => {
    expect(readSettings({})).toEqual(defaultSettings);
    expect(defaultSettings.intake).toMatchObject({
      requestBodyBytes: 1_000_000,
      messageParts: 50,
      partBytes: 512_000,
      blockingWaitSeconds: 55,
      openStreamsPerCaller: 50,
      keyRatePerSecond: 100,
      organizationRatePerSecond: 500,
      queuedRuns: 100_000,
      runsInFlight: 50,
    });
    expect(defaultSettings.run).toMatchObject({
      maxSteps: 30,
      maxToolCalls: 100,
      maxDepth: 5,
      maxTokens: 200_000,
      maxCostUsd: 1,
      timeoutSeconds: 600,
    });
  });

  test("store only what differs, merge a change, and take a null back to the default", () => {
    const first = unwrap(
      changeSettings({}, { run: { maxSteps: 5, maxDepth: 2 }, modelAliases: { fast: "openai/gpt-5" } }),
    );
    expect(first).toEqual({ run: { maxSteps: 5, maxDepth: 2 }, modelAliases: { fast: "openai/gpt-5" } });
    const second = unwrap(changeSettings(first, { run: { maxDepth: null }, modelAliases: { best: "anthropic/x" } }));
    expect(second).toEqual({ run: { maxSteps: 5 }, modelAliases: { fast: "openai/gpt-5", best: "anthropic/x" } });
    expect(readSettings(second).run).toEqual({ ...defaultSettings.run, maxSteps: 5 });
  });

  test.each([
    { run: { maxSteps: 0 } },
    { run: { maxSteps: 1.5 } },
    { run: { maxStep: 5 } },
    { intake: { runsInFlight: -1 } },
    { retry: { maxAttempts: 21 } },
    { modelAliases: { "a/b": "openai/x" } },
    { modelAliases: { a: "openai" } },
    { modelAliases: { a: [] } },
    { modelAliases: { a: ["openai/x", "openai"] } },
    { modelAliases: { a: Array(9).fill("openai/x") } },
    { prices: { "openai/x": { input: 1 } } },
    { prices: { "openai/x": { input: -1, cached: 0, output: 0 } } },
    { nothing: 1 },
    { run: 7 },
  ])("refuse %j and name what is wrong", (patch) => {
    const result = changeSettings({}, patch);
    expect(result.ok ? "" : result.error.code).toBe("invalid_input");
    expect(result.ok ? "" : result.error.message).toMatch(/^\S+: \D|^it does not know nothing\.$/);
  });

  test.each([
    [{ run: { maxSteps: 0 } }, "run.maxSteps: must be a whole number from 1 to 1000."],
    [{ run: { maxCostUsd: "much" } }, "run.maxCostUsd: must be a number from 0 to 10000."],
    [{ spend: { monthlyUsd: -1 } }, "spend.monthlyUsd: must be a number from 0 to 10000000."],
    [{ modelAliases: { "a/b": "openai/x" } }, "modelAliases.a/b: must be a name without a slash."],
  ])("refuse %j with the setting and its range", (patch, message) => {
    const result = changeSettings({}, patch);
    expect(result.ok ? "" : result.error.message).toBe(message);
  });

  test.each([null, 7, [], { run: "x" }, { run: { maxSteps: -1 }, future: 1 }])(
    "never lock an organization out, even stored as %j",
    (stored) => expect(readSettings(stored)).toEqual(defaultSettings),
  );

  test("keep what is good beside what is not", () => {
    const settings = readSettings({ run: { maxSteps: 5, future: 1 }, retry: { maxAttempts: 99 }, prices: 1 });
    expect(settings).toEqual({ ...defaultSettings, run: { ...defaultSettings.run, maxSteps: 5 } });
  });

  test("say which models a name means: itself, an alias with its order, or the default", () => {
    const modelAliases = { one: "openai/x", many: ["openai/x", "anthropic/y"] };
    expect(modelsNamed({ modelAliases }, "shop/model")).toEqual(["shop/model"]);
    expect(modelsNamed({ modelAliases }, "one")).toEqual(["openai/x"]);
    expect(modelsNamed({ modelAliases }, "many")).toEqual(["openai/x", "anthropic/y"]);
    expect(modelsNamed({ modelAliases, defaultModel: "many" }, undefined)).toEqual(["openai/x", "anthropic/y"]);
    expect(modelsNamed({ modelAliases: { default: "openai/z" } }, undefined)).toEqual(["openai/z"]);
    for (const name of ["none", "__proto__", undefined]) expect(modelsNamed({ modelAliases }, name)).toBeUndefined();
  });

  test("do not take over names from the prototype", () => {
    const patch = JSON.parse('{"__proto__": {"run": {"maxSteps": 1}}}');
    const changed = changeSettings({}, patch);
    expect(readSettings(changed.ok ? changed.value : {})).toEqual(defaultSettings);
  });
});
