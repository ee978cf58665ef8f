import { unwrap } from "@shaman/kernel";
import { describe, expect, test } from "vitest";
import { defaultSettings, modelsNamed, readSettings } from "./organization-settings.ts";
import { changeSettings } from "./settings-patch.ts";

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
    ...["nope", "a b c", "openai/", "/x", "", "openai/a b"].map((defaultModel) => ({ defaultModel })),
    { prices: { "gpt-5": { input: 1, cached: 1, output: 1 } } },
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
    [{ defaultModel: "openai/" }, "defaultModel: must be provider/model, or a name that modelAliases has."],
    [{ defaultModel: "nope" }, "defaultModel: must be provider/model, or a name that modelAliases has."],
    [{ prices: { "gpt-5": { input: 1, cached: 1, output: 1 } } }, "prices.gpt-5: must be provider/model."],
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

  test("keep an alias for as long as it is the default model", () => {
    const stored = unwrap(changeSettings({}, { defaultModel: "fast", modelAliases: { fast: "openai/x", b: "a/b" } }));
    const message = "modelAliases.fast: is the defaultModel, which must be another one before the alias can go.";
    for (const modelAliases of [{ fast: null }, null]) {
      expect(changeSettings(stored, { modelAliases })).toMatchObject({ error: { code: "invalid_input", message } });
    }
    expect(unwrap(changeSettings(stored, { modelAliases: { b: null } }))).toMatchObject({ defaultModel: "fast" });
    expect(unwrap(changeSettings(stored, { defaultModel: null, modelAliases: null }))).toEqual({});
    expect(unwrap(changeSettings({}, { defaultModel: "openai/x" }))).toEqual({ defaultModel: "openai/x" });
  });

  test("can be read as before where they were stored by a version that allowed more", () => {
    const prices = { "gpt-5": { input: 1, cached: 1, output: 1 }, "a/b": { input: 2, cached: 2, output: 2 } };
    expect(readSettings({ defaultModel: "a b c", prices })).toMatchObject({ defaultModel: "a b c", prices });
  });

  const older = {
    defaultModel: "gone",
    run: { maxSteps: 5_000, future: 1 },
    modelAliases: { a: "openai" },
    prices: { "gpt-5": { input: 1 } },
    later: { on: true },
  };

  test.each([
    { run: { maxDepth: 2 } },
    { run: { maxSteps: 9 } },
    { retry: { maxAttempts: 2 } },
    { defaultModel: "openai/x" },
    { modelAliases: { a: null } },
    { prices: { "gpt-5": null, "openai/x": { input: 1, cached: 1, output: 1 } } },
    { later: null },
  ])("can be changed by %j beside what this version does not allow or know", (patch) => {
    expect(changeSettings(older, patch)).toMatchObject({ ok: true });
  });

  test.each([
    [{ run: { maxDepth: -1 } }, "run.maxDepth: must be a whole number from 0 to 20."],
    [{ run: { maxSteps: 6_000 } }, "run.maxSteps: must be a whole number from 1 to 1000."],
    [{ run: { future: 2, other: 1 } }, "run: does not know future; run: does not know other."],
    [{ later: { on: false } }, "it does not know later."],
    [{ defaultModel: "none" }, "defaultModel: must be provider/model, or a name that modelAliases has."],
    [{ modelAliases: { a: "anthropic" } }, "modelAliases.a: must be provider/model."],
    [{ prices: { x: { input: 1, cached: 1, output: 1 } } }, "prices.x: must be provider/model."],
  ])("refuse %j for nothing but itself", (patch, message) => {
    expect(changeSettings(older, patch)).toMatchObject({ error: { code: "invalid_input", message } });
  });

  test.each([
    ['{"__proto__": {"run": {"maxSteps": 1}}}', "__proto__"],
    ['{"run": {"maxSteps": 1, "__proto__": 1}}', "run.__proto__"],
    ['{"prices": {"__proto__": null}}', "prices.__proto__"],
    ['{"modelAliases": {"a": [{"__proto__": 1}]}}', "modelAliases.a[0].__proto__"],
  ])("refuse %s, whose name reaches the prototype", (patch, place) => {
    const message = `${place}: is no name that may be used.`;
    expect(changeSettings({}, JSON.parse(patch))).toMatchObject({ error: { code: "invalid_input", message } });
  });
});
