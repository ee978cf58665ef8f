import { expect, test } from "vitest";
import { settingPatch } from "./setting-patch.ts";

test.each([
  ["run.maxCostUsd", "2", { run: { maxCostUsd: 2 } }],
  ["run.maxCostUsd", "default", { run: { maxCostUsd: null } }],
  ["run.maxCostUsd", "much", { run: { maxCostUsd: "much" } }],
  ["defaultModel", "5", { defaultModel: "5" }],
  ["defaultModel", "default", { defaultModel: null }],
  ["modelAliases.fast", "openai/gpt-5", { modelAliases: { fast: "openai/gpt-5" } }],
  ["modelAliases.fast", '["openai/a","b/c"]', { modelAliases: { fast: ["openai/a", "b/c"] } }],
  ["prices", '{"a/b":{"input":1},"c/d":null}', { prices: { "a/b": { input: 1 }, "c/d": null } }],
  ["prices", "default", { prices: null }],
  ["prices.openai/gpt-4.1", "default", { prices: { "openai/gpt-4.1": null } }],
])("%s %s is the change of just that", (setting, value, patch) => {
  expect(settingPatch(setting, value)).toEqual(patch);
});

test.each([
  ["run.maxCost", 'There is no setting "run.maxCost". Did you mean run.maxCostUsd?'],
  ["maxCostUsd", "Did you mean run.maxCostUsd?"],
  ["maxStps", "Did you mean run.maxSteps?"],
  ["spend.monthlyusd", "Did you mean spend.monthlyUsd?"],
  ["nothing.like-this-one", "./shaman org settings lists them all"],
  ["run", "There is no setting"],
  ["run.__proto__", "There is no setting"],
  ["", "There is no setting"],
])("the unknown setting %j is refused, with what may have been meant", (setting, message) => {
  expect(() => settingPatch(setting, "5")).toThrow(message);
});

test.each(["5", "{", "[]", "text"])("a table of settings is not replaced by %s", (value) => {
  expect(() => settingPatch("prices", value)).toThrow(/^prices: must be a JSON object such as /);
});
