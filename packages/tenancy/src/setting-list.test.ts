import { unwrap } from "@shaman/kernel";
import { expect, test } from "vitest";
import { defaultSettings, readSettings } from "./organization-settings.ts";
import { listSettings, SETTING_NAMES } from "./setting-list.ts";
import { changeSettings } from "./settings-patch.ts";

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
    unreadable: undefined,
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

test("what is stored and not valid is not marked as set: the default holds, and the list says why", () => {
  const all = listed({ run: { maxSteps: 5_000, maxDepth: 2 }, retry: { maxAttempts: 2 }, spend: 7, prices: { a: 1 } });
  const named = (wanted: string) => all.find(({ name }) => name === wanted);
  const unread = { isSet: false, unreadable: "run.maxSteps" };
  expect(named("run.maxSteps")).toMatchObject({ ...unread, value: 30 });
  expect(named("run.maxDepth")).toMatchObject({ ...unread, value: 5 });
  expect(named("retry.maxAttempts")).toMatchObject({ isSet: true, unreadable: undefined, value: 2 });
  expect(named("spend.monthlyUsd")).toMatchObject({ isSet: false, unreadable: "spend", value: undefined });
  expect(named("prices")).toMatchObject({ isSet: false, unreadable: "prices.a", value: undefined });
  expect(all.filter(({ name }) => name.startsWith("intake.")).every((each) => each.unreadable === undefined)).toBe(
    true,
  );
});

test("a group of which nothing is set any more is no override", () => {
  const set = unwrap(
    changeSettings({}, { run: { maxSteps: 5 }, prices: { "a/b": { input: 1, cached: 1, output: 1 } } }),
  );
  expect(unwrap(changeSettings(set, { run: { maxSteps: null }, prices: { "a/b": null } }))).toEqual({});
});
