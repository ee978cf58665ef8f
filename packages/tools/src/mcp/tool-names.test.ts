import { expect, test } from "vitest";
import { modelToolNames } from "./tool-names.ts";

test("the name of a tool is its server's and its own, where that fits every provider and is unique", () => {
  expect(modelToolNames([{ server: "orders", tool: "order_lookup" }])).toEqual(["orders__order_lookup"]);
});

test("names that are too long, hold other signs or would be the same become unique, and stay the same from run to run", () => {
  const tools = [
    { server: "a__b", tool: "c" },
    { server: "a", tool: "b__c" },
    { server: "s", tool: "x".repeat(200) },
    { server: "s", tool: `${"x".repeat(199)}y` },
    { server: "s", tool: "größe/ändern" },
    { server: "s", tool: "gr_e_ndern" },
  ];
  const names = modelToolNames(tools);
  expect(new Set(names).size).toBe(tools.length);
  for (const name of names) expect(name).toMatch(/^[A-Za-z0-9_-]{1,64}$/);
  expect(modelToolNames(tools)).toEqual(names);
});
