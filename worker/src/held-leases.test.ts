import type { Db, Statement } from "@shaman/db";
import { createLogger } from "@shaman/telemetry";
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { createHeldLeases } from "./held-leases.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** Leases of 30 seconds, renewed every 10, over a database that `renews` or does not. */
const given = (renews: (runId: string) => boolean = () => true) => {
  const renewed: string[][] = [];
  let isAway = false;
  const batch = async (_orgId: string, [statement]: readonly Statement[]) => {
    if (isAway) throw new Error("PostgreSQL is away");
    const rows: { run_id: string }[] = JSON.parse(String(statement?.values?.[2]));
    const ids = rows.map((row) => row.run_id);
    renewed.push(ids);
    return [{ rows: ids.filter(renews).map((id) => ({ id })), rowCount: ids.length }];
  };
  const held = createHeldLeases({
    db: { batch } as unknown as Db,
    worker: "w",
    leaseMs: 30_000,
    renewMs: 10_000,
    lost: (runId) => new Error(`lost ${runId}`),
    log: createLogger({ process: "test", level: "silent" }),
  });
  onTestFinished(held.close);
  const stopped: string[] = [];
  const add = (runId: string, leaseMs: number): void =>
    held.add({
      lease: { orgId: "org", runId, epoch: 1 },
      leaseMs,
      stop: (reason) => void stopped.push(String(reason)),
    });
  return { held, add, renewed, stopped, leaveDatabase: () => void (isAway = true) };
};

const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);

test("a short lease is renewed within a second, a long one when a third of it is over, and both then alike", async () => {
  const { add, renewed, stopped } = given();
  add("short", 5_000);
  add("long", 30_000);
  await pass(1_000);
  expect(renewed).toEqual([["short"]]);
  await pass(8_000);
  expect(renewed).toEqual([["short"]]);
  await pass(2_000);
  expect(renewed.slice(1).flat().toSorted()).toEqual(["long", "short"]);
  await pass(60_000);
  expect(stopped).toEqual([]);
});

test("a run whose lease could not be renewed is stopped as it ends, the shorter one first", async () => {
  const { add, stopped, leaveDatabase } = given();
  leaveDatabase();
  add("short", 5_000);
  add("long", 30_000);
  await pass(4_900);
  expect(stopped).toEqual([]);
  await pass(4_000);
  expect(new Set(stopped)).toEqual(new Set(["Error: lost short"]));
  await pass(25_000);
  expect(new Set(stopped)).toEqual(new Set(["Error: lost short", "Error: lost long"]));
});

test("a run whose lease somebody else has is stopped, and one that has ended is asked for no more", async () => {
  const { held, add, renewed, stopped } = given((runId) => runId !== "taken");
  add("taken", 5_000);
  add("ended", 5_000);
  held.remove("ended");
  await pass(1_000);
  expect(renewed).toEqual([["taken"]]);
  expect(stopped).toEqual(["Error: lost taken"]);
});
