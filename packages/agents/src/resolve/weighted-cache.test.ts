import { expect, test } from "vitest";

import { createWeightedCache } from "./weighted-cache.ts";

test("what was used least recently goes when the rest would be too heavy", () => {
  const cache = createWeightedCache<number>(10);
  cache.set("a", 1, 4);
  cache.set("b", 2, 4);
  expect(cache.get("a")).toBe(1);
  cache.set("c", 3, 4);
  expect([cache.get("a"), cache.get("b"), cache.get("c")]).toEqual([1, undefined, 3]);
});

test("replacing and deleting give their weight back, and one thing too heavy for all is still kept alone", () => {
  const cache = createWeightedCache<number>(10);
  for (let i = 0; i < 100; i += 1) cache.set("a", i, 6);
  cache.set("b", 1, 4);
  expect(cache.get("a")).toBe(99);
  cache.delete("a");
  cache.set("c", 1, 6);
  expect(cache.get("b")).toBe(1);
  cache.set("d", 1, 100);
  expect([cache.get("b"), cache.get("c"), cache.get("d")]).toEqual([undefined, undefined, 1]);
});
