import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createLater } from "./later.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** Work that fails while `away()` says so. */
const given = () => {
  const later = createLater(500);
  const done: string[] = [];
  let tries = 0;
  let away = true;
  const put = (name: string, fails: () => boolean = () => away): void =>
    later.put(async () => {
      tries += 1;
      if (fails()) throw new Error("away");
      done.push(name);
    });
  return { later, put, done, tries: () => tries, comeBack: () => void (away = false) };
};

test("does all of it when what was away is back, and asks but once in a while before", async () => {
  const { put, done, tries, comeBack } = given();
  for (const name of ["a", "b", "c"]) put(name);
  await vi.advanceTimersByTimeAsync(5_000);
  expect([done, tries()]).toEqual([[], 10]);
  comeBack();
  await vi.advanceTimersByTimeAsync(500);
  expect(done.toSorted()).toEqual(["a", "b", "c"]);
  put("d");
  await vi.advanceTimersByTimeAsync(500);
  expect(done.at(-1)).toBe("d");
  await vi.advanceTimersByTimeAsync(5_000);
  expect(vi.getTimerCount()).toBe(0);
});

test("what can never be done holds up nothing else", async () => {
  const { put, done, comeBack } = given();
  put("never", () => true);
  put("a");
  put("b");
  comeBack();
  await vi.advanceTimersByTimeAsync(1_000);
  expect(done).toEqual(["a", "b"]);
});

test("does nothing more once it is closed", async () => {
  const { later, put, done, comeBack } = given();
  put("a");
  await vi.advanceTimersByTimeAsync(500);
  comeBack();
  later.close();
  await vi.advanceTimersByTimeAsync(5_000);
  expect([done, vi.getTimerCount()]).toEqual([[], 0]);
});
