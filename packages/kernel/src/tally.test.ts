import { expect, test } from "vitest";
import { createTally } from "./tally.ts";

test("a tally counts per key and in all, and a key that is back at 0 is as one never seen", () => {
  const tally = createTally();
  for (const key of ["a", "a", "b"]) tally.add(key);
  expect([tally.of("a"), tally.of("b"), tally.of("c"), tally.total()]).toEqual([2, 1, 0, 3]);
  tally.remove("a");
  tally.remove("b");
  expect([tally.of("a"), tally.of("b"), tally.total()]).toEqual([1, 0, 1]);
});
