import { expect, test } from "vitest";
import { createQueueDepth } from "./queue-depth.ts";

const given = (unfinished: number) => {
  const state = { nowMs: 0, unfinished, asked: 0 };
  const isFull = createQueueDepth({
    clock: { now: () => state.nowMs },
    db: {
      batch: async () => {
        state.asked += 1;
        return [{ rows: [{ unfinished: state.unfinished }], rowCount: 1 }];
      },
    },
  });
  return { state, isFull };
};

test("a full organization is refused, and let in again a second after there is room", async () => {
  const { state, isFull } = given(10);
  expect(await isFull("org_1", 10)).toBe(true);
  state.unfinished = 9;
  state.nowMs = 999;
  expect(await isFull("org_1", 10)).toBe(true);
  state.nowMs = 1_000;
  expect(await isFull("org_1", 10)).toBe(false);
});

test("an organization with much room is counted twice a minute, and again when half of the room may be taken", async () => {
  const { state, isFull } = given(0);
  for (state.nowMs = 0; state.nowMs < 30_000; state.nowMs += 1_000) expect(await isFull("org_1", 100)).toBe(false);
  expect(state.asked).toBe(1);
  await isFull("org_1", 100);
  expect(state.asked).toBe(2);
  for (let run = 0; run < 60; run += 1) await isFull("org_1", 100);
  state.nowMs += 1_000;
  state.unfinished = 100;
  expect(await isFull("org_1", 100)).toBe(true);
  expect(state.asked).toBe(3);
});

test("many at once are one count, and organizations are counted apart", async () => {
  const { state, isFull } = given(0);
  await Promise.all(Array.from({ length: 50 }, () => isFull("org_1", 100)));
  expect(state.asked).toBe(1);
  await isFull("org_2", 100);
  expect(state.asked).toBe(2);
});
