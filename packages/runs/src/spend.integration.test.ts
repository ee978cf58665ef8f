import { newId } from "@shaman/kernel";
import { acceptTestRun, testDatabase, type TestDatabase } from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { claimRun, type LeasedRun } from "./lease.ts";
import type { RunOutcome } from "./batch.ts";
import { recordBatch } from "./record-batch.ts";
import { reserveSpend } from "./spend.ts";
import { findChildTask } from "./task-tree.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await testDatabase();
});
afterAll(() => database.close());

const givenOrg = async (input: { readonly organization?: number; readonly key?: number }) => {
  const { orgId } = await database.givenOrg();
  const keyId = newId("key");
  if (input.organization !== undefined) {
    const settings = { spend: { monthlyUsd: input.organization } };
    await database.inspect("UPDATE organization SET settings = $2 WHERE id = $1", [orgId, settings]);
  }
  await database.inspect(
    `INSERT INTO api_key (org_id, id, name, prefix, secret_hash, owner_id, created_by, monthly_spend_usd)
     VALUES ($1, $2, 'k', 'p', $3, 'o', 'c', $4)`,
    [orgId, keyId, Buffer.from(keyId), input.key ?? null],
  );
  const claim = async (apiKeyId: string | null = keyId): Promise<LeasedRun> => {
    return reclaim((await acceptTestRun(database, { orgId, apiKeyId })).runId);
  };
  const reclaim = async (runId: string): Promise<LeasedRun> => {
    const run = await claimRun(database.as("worker"), { orgId, runId, leaseMs: 60_000, worker: "w" });
    if (run === undefined) throw new Error("not claimed");
    return run;
  };
  return { claim, reclaim };
};

const reserve = (run: LeasedRun, wanted = 1) => reserveSpend(database.as("worker"), run, wanted);
const NOTHING = {
  events: [],
  tasks: [],
  steps: [],
  artifacts: [],
  agentMessages: [],
  appliedCommands: [],
  audit: [],
};
/** Records a model step of this cost, and what becomes of the run. */
const spend = async (run: LeasedRun, costUsd: number, outcome?: RunOutcome): Promise<void> => {
  const usage = { model: "m", inputTokens: 1, outputTokens: 1, cachedInputTokens: 0, costUsd };
  const step = {
    kind: "model",
    name: "m",
    inputHash: "h",
    state: "done",
    taskId: run.rootTaskId,
    agent: "Clerk",
  } as const;
  const recorded = await recordBatch(database.as("worker"), run, {
    ...NOTHING,
    steps: [{ ...step, position: Math.round(costUsd * 1_000), usage }],
    ...(outcome !== undefined && { outcome }),
  });
  expect(recorded).toBeDefined();
};

const DONE: RunOutcome = { kind: "finished", state: "completed" };

describe("a spend limit", () => {
  test("that is not set takes and reserves nothing", async () => {
    const { claim } = await givenOrg({});
    const run = await claim();
    expect(await reserve(run)).toEqual({ costUsd: 1, limit: undefined });
    expect(await database.inspect("SELECT reserved_usd::float8 AS usd FROM run WHERE id = $1", [run.runId])).toEqual([
      { usd: 0 },
    ]);
  });

  test("of an organization holds for all its runs at once: what one has reserved no other gets, until it comes back", async () => {
    const { claim, reclaim } = await givenOrg({ organization: 1.5 });
    const [first, second, third] = [await claim(), await claim(null), await claim()];
    expect(await reserve(first)).toEqual({ costUsd: 1, limit: undefined });
    expect(await reserve(second)).toEqual({ costUsd: 0.5, limit: "organization" });
    expect(await reserve(third)).toEqual({ costUsd: 0, limit: "organization" });
    await spend(first, 0.25, DONE);
    const later = await reserve(third);
    expect(later.costUsd).toBeCloseTo(0.75);
    await spend(second, 0.5, { kind: "parked", retryAt: new Date(), counts: "nothing" });
    expect((await reserve(await reclaim(second.runId))).costUsd).toBeCloseTo(0);
  });

  test("counts what a run has spent once: what is recorded is no longer reserved", async () => {
    const { claim } = await givenOrg({ organization: 1.5 });
    const [first, second] = [await claim(), await claim()];
    await reserve(first);
    await spend(first, 0.75);
    expect((await reserve(second)).costUsd).toBeCloseTo(0.5);
  });

  test("counts model calls that gave no step, as do the run's own sums and those of its tree", async () => {
    const { claim, reclaim } = await givenOrg({ organization: 1, key: 0.9 });
    const run = await claim();
    const { orgId, runId, rootTaskId: taskId } = run;
    const failed = (costUsd: number | null, tokens: number) => ({
      taskId,
      agent: "Clerk",
      position: 1,
      usage: { model: "m", inputTokens: tokens, outputTokens: 1, cachedInputTokens: 0, costUsd },
    });
    await reserve(run, 0.5);
    await recordBatch(database.as("worker"), run, {
      ...NOTHING,
      failedCalls: [failed(0.25, 100), failed(0.125, 50)],
      outcome: { kind: "parked", retryAt: new Date(0), counts: "attempt" },
    });
    const again = await reclaim(runId);
    expect(again.used).toEqual({ steps: 0, tokens: 152, costUsd: 0.375 });
    expect(again.barrenClaims).toBe(2);
    expect(await findChildTask(database.as("internal"), { orgId, runId, taskId })).toMatchObject({
      tokens: 152,
      costUsd: 0.375,
    });
    const other = await reserve(await claim());
    expect(other.costUsd).toBeCloseTo(0.525);
    expect(other.limit).toBe("key");
    await recordBatch(database.as("worker"), again, { ...NOTHING, failedCalls: [failed(null, 1)], outcome: DONE });
    const known = "SELECT cost_known AS known FROM run WHERE id = $1";
    expect(await database.inspect(known, [runId])).toEqual([{ known: false }]);
  });

  test("of a key holds beside the organization's, for that key alone", async () => {
    const { claim } = await givenOrg({ organization: 10, key: 0.5 });
    expect(await reserve(await claim())).toEqual({ costUsd: 0.5, limit: "key" });
    expect(await reserve(await claim())).toEqual({ costUsd: 0, limit: "key" });
    expect(await reserve(await claim(null))).toEqual({ costUsd: 1, limit: undefined });
  });

  test("is never exceeded by workers that reserve at the same time", async () => {
    const { claim } = await givenOrg({ organization: 2.5 });
    const runs = await Promise.all(Array.from({ length: 8 }, () => claim()));
    const reserved = await Promise.all(runs.map((run) => reserve(run)));
    expect(reserved.reduce((sum, { costUsd }) => sum + costUsd, 0)).toBeCloseTo(2.5);
  });
});
