import type { Statement } from "@shaman/db";
import { createLogger } from "@shaman/telemetry";
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { createHeldLeases, type HeldRun } from "./held-leases.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** Leases of 30 seconds, renewed every 10, unless said otherwise, over a database that `renews` or does not. */
const given = (renews: (runId: string) => boolean = () => true, { leaseMs = 30_000, renewMs = 10_000 } = {}) => {
  const renewed: string[][] = [];
  let isAway = false;
  const batch = async (_orgId: string, [statement]: readonly Statement[]) => {
    if (isAway) throw new Error("PostgreSQL is away");
    await new Promise((resolve) => {
      setTimeout(resolve, 2);
    });
    const rows: { run_id: string }[] = JSON.parse(String(statement?.values?.[2]));
    const ids = rows.map((row) => row.run_id);
    renewed.push(ids);
    return [{ rows: ids.filter(renews).map((id) => ({ id })), rowCount: ids.length }];
  };
  const held = createHeldLeases({
    db: { batch },
    worker: "w",
    leaseMs,
    renewMs,
    lost: (runId) => new Error(`lost ${runId}`),
    log: createLogger({ process: "test", level: "silent" }),
  });
  onTestFinished(held.close);
  const stopped: string[] = [];
  const add = (runId: string, leaseMs: number, { epoch = 1, announced = false } = {}): HeldRun => {
    const run = {
      lease: { orgId: "org", runId, epoch, announced },
      leaseMs,
      stop: (why: unknown) => void stopped.push(String(why)),
    };
    held.add(run);
    return run;
  };
  return { held, add, renewed, stopped, leaveDatabase: () => void (isAway = true) };
};

const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);

test("a short lease is renewed within a second, a long one when a third of it is over, and both then alike", async () => {
  const { add, renewed, stopped } = given();
  add("short", 5_000);
  add("long", 30_000);
  await pass(1_100);
  expect(renewed).toEqual([["short"]]);
  await pass(7_000);
  expect(renewed).toEqual([["short"]]);
  await pass(3_000);
  expect(renewed.slice(1).flat().toSorted()).toEqual(["long", "short"]);
  await pass(60_000);
  expect(stopped).toEqual([]);
});

test("what was announced has as long as its lease to come on record, and is then renewed as any", async () => {
  let onRecord = false;
  const { held, add, renewed, stopped } = given((runId) => onRecord && runId === "slow");
  add("slow", 5_000, { announced: true });
  const never = add("never", 5_000, { announced: true });
  await pass(3_500);
  expect([renewed.length > 1, stopped]).toEqual([true, []]);
  onRecord = true;
  await pass(2_000);
  expect(new Set(stopped)).toEqual(new Set(["Error: lost never"]));
  held.remove(never);
  stopped.length = 0;
  await pass(8_000);
  expect(stopped).toEqual([]);
  onRecord = false;
  await pass(3_000);
  expect(new Set(stopped)).toEqual(new Set(["Error: lost slow"]));
});

test("a run whose lease could not be renewed is stopped as it ends, the shorter one first", async () => {
  const { add, stopped, leaveDatabase } = given();
  leaveDatabase();
  add("short", 5_000);
  add("long", 30_000);
  await pass(4_900);
  expect(stopped).toEqual([]);
  await pass(300);
  expect(new Set(stopped)).toEqual(new Set(["Error: lost short"]));
  await pass(25_000);
  expect(new Set(stopped)).toEqual(new Set(["Error: lost short", "Error: lost long"]));
});

test("a run whose lease somebody else has is stopped, and one that has ended is asked for no more", async () => {
  const { held, add, renewed, stopped } = given((runId) => runId !== "taken");
  add("taken", 5_000);
  held.remove(add("ended", 5_000));
  await pass(1_100);
  expect(renewed).toEqual([["taken"]]);
  expect(stopped).toEqual(["Error: lost taken"]);
});

test.each([
  [1_000, 500],
  [1_000, 1_000],
  [2_000, 1_000],
  [6_000, 5_500],
  [30_000, 28_000],
])(
  "leases of %i ms that are to be renewed every %i ms do not run out while the database answers",
  async (leaseMs, renewMs) => {
    const { add, stopped } = given(undefined, { leaseMs, renewMs });
    for (let i = 0; i < 10; i += 1) {
      add(`run ${i}`, leaseMs);
      add(`assigned run ${i}`, Math.min(leaseMs, 5_000));
      await pass(137);
    }
    await pass(100_000);
    expect(stopped).toEqual([]);
  },
);

test("what ends of an earlier lease takes nothing from a later one of the same run", async () => {
  const { held, add } = given();
  const first = add("run", 5_000);
  const second = add("run", 30_000, { epoch: 2 });
  held.remove(first);
  expect(held.find("run")).toBe(second);
  held.remove(second);
  expect(held.find("run")).toBeUndefined();
});
