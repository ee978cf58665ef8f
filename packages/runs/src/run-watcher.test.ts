import { localFanOut } from "@shaman/testkit";
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { createRunWatcher, nudgeRun, tellOnRecord, whenOnRecord } from "./run-watcher.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** A watcher over a database that has these runs. */
const given = async (onRecord: readonly string[] = []) => {
  const fanOut = localFanOut();
  const rows = onRecord.map((id) => ({ id, last_seq: 1 }));
  const db = { batch: async () => [{ rows, rowCount: rows.length }] };
  const watcher = await createRunWatcher({
    db,
    fanOut,
    channel: "goingOn",
    onError: (error) => expect.unreachable(error.message),
  });
  onTestFinished(watcher.close);
  const stop = new AbortController();
  const resolved: string[] = [];
  const wait = (runId: string): Promise<void> =>
    whenOnRecord(watcher, { orgId: "org", runId }, stop.signal).then(() => void resolved.push(runId));
  return { fanOut, wait, resolved, stop };
};

test("a run is known to be on record by the word of it, whether that comes first or last", async () => {
  const { fanOut, wait, resolved } = await given();
  tellOnRecord(fanOut, "run_early");
  await wait("run_early");
  const later = wait("run_late");
  tellOnRecord(fanOut, "run_other");
  await vi.advanceTimersByTimeAsync(100);
  expect(resolved).toEqual(["run_early"]);
  tellOnRecord(fanOut, "run_late");
  await later;
});

test("a word that was lost is made up for by the poll", async () => {
  const { wait, resolved } = await given(["run_1"]);
  const both = [wait("run_1"), wait("run_2")];
  await vi.advanceTimersByTimeAsync(2_000);
  await both[0];
  expect(resolved).toEqual(["run_1"]);
});

test("whoever has stopped listening is not kept waiting", async () => {
  const { wait, stop } = await given();
  const waiting = wait("run_1");
  stop.abort(new Error("gone"));
  await expect(waiting).rejects.toThrow("gone");
  await expect(wait("run_2")).rejects.toThrow("gone");
});

test("of runs that nobody waits for, the latest thousand are remembered", async () => {
  const { fanOut, wait, resolved } = await given();
  for (let i = 0; i <= 1_000; i += 1) tellOnRecord(fanOut, `run_${i}`);
  nudgeRun(fanOut, { runId: "run_0", seq: 2, goesOn: true });
  void wait("run_0");
  await Promise.all([wait("run_1"), wait("run_1000")]);
  expect(resolved).toEqual(["run_1", "run_1000"]);
});
