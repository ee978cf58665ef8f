import { unwrap } from "@shaman/kernel";
import { expect, test } from "vitest";
import { changeSettings, defaultSettings, readSettings } from "./organization-settings.ts";
import { listSettings, SETTING_NAMES } from "./setting-list.ts";

const listed = (overrides: Parameters<typeof listSettings>[1]) => listSettings(readSettings(overrides), overrides);

test("every setting is listed by the name under which it can be changed, with its default and what it may be", () => {
  const all = listed({});
  expect(all.map(({ name }) => name)).toEqual(SETTING_NAMES);
  expect(all.filter(({ isSet }) => isSet)).toEqual([]);
  expect(all).toContainEqual({
    name: "run.maxSteps",
    value: 30,
    standard: 30,
    isSet: false,
    range: "whole, 1 to 1000",
  });
  expect(all).toContainEqual(expect.objectContaining({ name: "spend.monthlyUsd", range: "0 to 10000000" }));
  const groups = Object.entries({ ...defaultSettings, defaultModel: {} }).flatMap(([group, of]) =>
    ["modelAliases", "prices"].includes(group) ? [] : Object.keys(of).map((key) => `${group}.${key}`),
  );
  expect(SETTING_NAMES).toEqual(expect.arrayContaining(groups));
});

test("what the organization has set is marked beside the default, and each entry of a table is listed", () => {
  const price = { input: 1, cached: 0.5, output: 2 };
  const overrides = { run: { maxSteps: 30, maxDepth: 1 }, defaultModel: "fast", prices: { "a/b.c": price } };
  const set = listed(overrides).filter(({ isSet }) => isSet);
  expect(set).toMatchObject([
    { name: "run.maxSteps", value: 30, standard: 30 },
    { name: "run.maxDepth", value: 1, standard: 5 },
    { name: "defaultModel", value: "fast" },
    { name: "prices.a/b.c", value: price },
  ]);
});

test("a group of which nothing is set any more is no override", () => {
  const set = unwrap(
    changeSettings({}, { run: { maxSteps: 5 }, prices: { "a/b": { input: 1, cached: 1, output: 1 } } }),
  );
  expect(unwrap(changeSettings(set, { run: { maxSteps: null }, prices: { "a/b": null } }))).toEqual({});
});
