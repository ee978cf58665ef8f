import { newId } from "@shaman/kernel";
import type { JobQueue, WakeUp } from "@shaman/queue";
import { acceptTestRun, findBrokenPromises, QUIET_QUEUE, testDatabase, type TestDatabase } from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeDurable } from "./accept.ts";
import { claimRun, renewLeases, type LeasedRun } from "./lease.ts";
import type { Batch, RunOutcome } from "./batch.ts";
import { recordBatch } from "./record-batch.ts";
import { sweepRuns } from "./sweep.ts";

let database: TestDatabase;
let orgId: string;
beforeAll(async () => {
  database = await testDatabase();
  ({ orgId } = await database.givenOrg());
});
afterAll(() => database.close());

/** A queue that only remembers what was added: these tests are about what PostgreSQL holds. */
const rememberingQueue = () => {
  const added: WakeUp[] = [];
  const cleared: string[] = [];
  const add = async (job: WakeUp): Promise<void> => void added.push(job);
  const dropAbandoned = async (id: string): Promise<void> => void cleared.push(id);
  const queue: JobQueue = { ...QUIET_QUEUE, add, addAgain: add, dropAbandoned };
  return { queue, added, cleared };
};

const givenRun = async (durable: "at once" | "later" = "at once"): Promise<string> =>
  (await acceptTestRun(database, { orgId, durable })).runId;

const claim = (runId: string, worker = "w1", leaseMs = 60_000) =>
  claimRun(database.as("worker"), { orgId, runId, leaseMs, worker });

const claimed = async (runId: string, worker?: string): Promise<LeasedRun> => {
  const run = await claim(runId, worker);
  if (run === undefined) throw new Error("not claimed");
  return run;
};

/** Lets the run's lease have run out, without waiting for it. */
const expireLease = (runId: string) =>
  database.inspect("UPDATE run SET lease_until = now() - interval '1 second' WHERE id = $1", [runId]);

const batchOf = (run: LeasedRun, outcome?: RunOutcome): Batch => ({
  events: [
    { type: "task.status", payload: { state: "working", timestamp: "2026-01-01T00:00:00Z" }, taskId: run.rootTaskId },
  ],
  tasks: [{ taskId: run.rootTaskId, state: "working" }],
  steps: [
    {
      position: 1,
      kind: "model",
      name: "m",
      inputHash: "h",
      state: "done",
      output: { by: run.epoch },
      taskId: run.rootTaskId,
      agent: "Clerk",
    },
  ],
  artifacts: [{ taskId: run.rootTaskId, artifactId: "a", parts: [{ text: String(run.epoch) }] }],
  agentMessages: [],
  appliedCommands: [],
  audit: [{ orgId, actor: "test", action: "tool:call", resource: "x", result: "ok", runId: run.runId }],
  ...(outcome !== undefined && { outcome }),
});

const TABLES = ["run", "task", "step", "run_event", "artifact", "usage", "message", "audit_log"];
const everything = () =>
  Promise.all(
    TABLES.map((table) =>
      database.inspect(`SELECT * FROM ${table} WHERE org_id = $1 ORDER BY to_jsonb(${table})::text`, [orgId]),
    ),
  );

const countWaitingForLocks = async (): Promise<number> => {
  const rows = await database.inspect(
    "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
    [],
  );
  return rows.length;
};

describe("a lease", () => {
  test("refuses what an older claim of the same epoch writes: a crash of PostgreSQL may undo a claim, and its epoch comes again", async () => {
    const runId = await givenRun();
    const older = await claimed(runId);
    await database.inspect("UPDATE run SET lease_epoch = 0, lease_until = NULL, worker = NULL WHERE id = $1", [runId]);
    const newer = await claimed(runId);
    expect(newer.epoch).toBe(older.epoch);
    expect(await recordBatch(database.as("worker"), older, batchOf(older))).toBeUndefined();
    expect(await recordBatch(database.as("worker"), newer, batchOf(newer))).toMatchObject({ lastSeq: 2 });
  });

  test("is taken by exactly one of many workers that claim at once", async () => {
    const runId = await givenRun();
    const claims = await Promise.all(Array.from({ length: 20 }, (_, i) => claim(runId, `w${i}`)));
    const won = claims.filter((run) => run !== undefined);
    expect(won).toHaveLength(1);
    expect(won[0]?.epoch).toBe(1);
  });

  test("that ran out is taken over with a higher epoch, and its former holder writes and renews nothing", async () => {
    const runId = await givenRun();
    const stale = await claimed(runId, "w1");
    await expireLease(runId);
    const before = await everything();
    const held = [{ runId, epoch: stale.epoch }];
    const worker = database.as("worker");
    expect(await recordBatch(worker, stale, batchOf(stale))).toBeUndefined();
    expect(await renewLeases(worker, { orgId, worker: "w1", leaseMs: 60_000, held })).toEqual(new Set());
    expect(await everything()).toEqual(before);

    const fresh = await claimed(runId, "w2");
    expect(fresh.epoch).toBe(stale.epoch + 1);
    const taken = await everything();
    expect(await recordBatch(worker, stale, batchOf(stale, { kind: "finished", state: "completed" }))).toBeUndefined();
    expect(await renewLeases(worker, { orgId, worker: "w1", leaseMs: 60_000, held })).toEqual(new Set());
    expect(await everything()).toEqual(taken);
    expect(await recordBatch(worker, fresh, batchOf(fresh))).toMatchObject({ lastSeq: 2 });
  });

  test("is renewed only for its holder", async () => {
    const runId = await givenRun();
    const run = await claimed(runId, "w1");
    const renew = (worker: string, epoch: number) =>
      renewLeases(database.as("worker"), { orgId, worker, leaseMs: 60_000, held: [{ runId, epoch }] });
    expect(await renew("w2", run.epoch)).toEqual(new Set());
    expect(await renew("w1", run.epoch + 1)).toEqual(new Set());
    expect(await renew("w1", run.epoch)).toEqual(new Set([runId]));
  });

  test("is renewed together with others in the order in which a commit locks them, so that neither waits for the other", async () => {
    const held = [await claimed(await givenRun()), await claimed(await givenRun()), await claimed(await givenRun())];
    const [first, ...others] = held.map(({ runId }) => runId).toSorted();
    const worker = database.as("worker");
    let renewed: Promise<ReadonlySet<string>> | undefined;
    await worker.withOrg(orgId, async (tx) => {
      const lock = (runId = "") =>
        tx.query({ text: "UPDATE run SET attempts = attempts WHERE org_id = $1 AND id = $2", values: [orgId, runId] });
      await lock(first);
      renewed = renewLeases(worker, { orgId, worker: "w1", leaseMs: 60_000, held: held.toReversed() });
      await expect.poll(countWaitingForLocks).toBe(1);
      for (const runId of others) await lock(runId);
    });
    expect(await renewed).toEqual(new Set([first, ...others]));
  });

  test("of a finished run is never taken again, and nothing is written after the end", async () => {
    const runId = await givenRun();
    const run = await claimed(runId);
    const worker = database.as("worker");
    const { state, ...end } = { state: "completed" as const, kind: "finished" as const };
    await recordBatch(worker, run, {
      ...batchOf(run, { ...end, state }),
      events: [{ type: "task.status", payload: { state, timestamp: "2026-01-01T00:00:00Z" }, taskId: run.rootTaskId }],
      tasks: [{ taskId: run.rootTaskId, state }],
      audit: [
        {
          orgId,
          actor: "test",
          action: "task:completed",
          resource: run.rootTaskId,
          result: "ok",
          runId,
          taskId: run.rootTaskId,
          server: "worker",
        },
      ],
    });
    const before = await everything();
    expect(await claim(runId, "w2")).toBeUndefined();
    expect(await recordBatch(worker, run, batchOf(run))).toBeUndefined();
    expect(await everything()).toEqual(before);
  });
});

describe("a step", () => {
  test("that is recorded as done keeps its output, whatever a later attempt says", async () => {
    const runId = await givenRun();
    const first = await claimed(runId);
    const worker = database.as("worker");
    await recordBatch(worker, first, batchOf(first, { kind: "parked", retryAt: new Date(0), counts: "nothing" }));
    const second = await claimed(runId, "w2");
    await recordBatch(worker, second, batchOf(second));
    const steps = await database.inspect("SELECT output, lease_epoch FROM step WHERE run_id = $1", [runId]);
    expect(steps).toEqual([{ output: { by: 1 }, lease_epoch: 1 }]);
  });
});

describe("the claims of a run without a finished step", () => {
  test("are counted, forgotten with the next finished step, and not counted when it was parked for somebody else's sake", async () => {
    const runId = await givenRun();
    const worker = database.as("worker");
    const empty = (outcome: RunOutcome) => ({
      ...batchOf(run, outcome),
      steps: [],
      events: [],
      audit: [],
      artifacts: [],
    });
    const park = { kind: "parked", retryAt: new Date(0) } as const;
    let run = await claimed(runId);
    expect(run.barrenClaims).toBe(1);
    await recordBatch(worker, run, empty({ ...park, counts: "claim" }));
    run = await claimed(runId);
    expect(run.barrenClaims).toBe(2);
    await recordBatch(worker, run, empty({ ...park, counts: "nothing" }));
    run = await claimed(runId);
    expect(run.barrenClaims).toBe(2);
    await recordBatch(worker, run, batchOf(run, { ...park, counts: "claim" }));
    expect((await claimed(runId)).barrenClaims).toBe(1);
  });
});

describe("the sweep", () => {
  const nudged: string[] = [];
  const nudge = (id: string): void => void nudged.push(id);
  const swept = async (): Promise<readonly string[]> => {
    const { queue, added } = rememberingQueue();
    await sweepRuns({ db: database.as("worker"), queue, nudge }, { afterMs: 60_000 });
    return added.map((job) => job.jobId);
  };
  const age = (runId: string) =>
    database.inspect("UPDATE run SET enqueued_at = now() - interval '2 minutes' WHERE id = $1", [runId]);

  test("wakes with the same wake what nobody holds and what waits too long, and nothing else", async () => {
    const [waiting, fresh, held, dead, parked] = [
      await givenRun(),
      await givenRun(),
      await givenRun(),
      await givenRun(),
      await givenRun(),
    ];
    await claim(held);
    await claim(dead);
    await expireLease(dead);
    const run = await claimed(parked);
    const later = new Date(Date.now() + 3_600_000);
    await recordBatch(database.as("worker"), run, batchOf(run, { kind: "parked", retryAt: later, counts: "attempt" }));
    for (const runId of [waiting, held, dead, parked]) await age(runId);
    const first = await swept();
    expect(
      first.filter((id) => [waiting, fresh, held, dead, parked].some((runId) => id.startsWith(runId))).toSorted(),
    ).toEqual([`${waiting}-1`, `${dead}-1`].toSorted());
    expect((await swept()).filter((id) => id.startsWith(waiting))).toEqual([]);
  });

  test("says which organization has something to do, also where its queue has the job already", async () => {
    nudged.length = 0;
    await swept();
    expect(nudged).not.toContain(orgId);
    await age(await givenRun());
    await swept();
    expect(nudged).toContain(orgId);
  });

  test("has the queue drop what a dead worker left half taken, where it finds a run", async () => {
    const { queue, cleared } = rememberingQueue();
    const sweep = () => sweepRuns({ db: database.as("worker"), queue, nudge }, { afterMs: 60_000 });
    await sweep();
    cleared.length = 0;
    await sweep();
    expect(cleared).not.toContain(orgId);
    await age(await givenRun());
    await sweep();
    expect(cleared).toContain(orgId);
  });

  test("wakes a run as soon as its lease has run out, once, however lately it was put into the queue", async () => {
    const runId = await givenRun();
    await claim(runId, "w1", 1);
    await expect.poll(swept, { timeout: 10_000 }).toContain(`${runId}-1`);
    expect(await swept()).not.toContain(`${runId}-1`);
  });

  test("leaves a suspended run alone until there is a command for it", async () => {
    const runId = await givenRun();
    const run = await claimed(runId);
    await recordBatch(database.as("worker"), run, batchOf(run, { kind: "suspended", on: "input" }));
    await age(runId);
    expect(await swept()).not.toContain(`${runId}-1`);
    await database.inspect(
      "INSERT INTO task_command (org_id, id, run_id, task_id, kind, actor) VALUES ($1, $2, $3, $4, 'cancel', 'test')",
      [orgId, newId("cmd"), runId, run.rootTaskId],
    );
    expect(await swept()).toContain(`${runId}-1`);
  });
});

test("the checker of promises finds each kind of broken history", async () => {
  const { orgId: other } = await database.givenOrg();
  expect(await findBrokenPromises(database, other)).toEqual([]);
  const insert = (table: string, row: Record<string, unknown>) =>
    database.inspect(
      `INSERT INTO ${table} SELECT * FROM jsonb_populate_record(NULL::${table}, (SELECT to_jsonb(t) FROM ${table} t LIMIT 1) || $1::jsonb)`,
      [{ ...row, org_id: other }],
    );
  const [task] = await database.inspect<{ id: string; run_id: string }>(
    "SELECT id, run_id FROM task WHERE state = 'completed'",
  );
  await insert("run", {
    id: task?.run_id,
    root_task_id: task?.id,
    state: "completed",
    last_seq: 3,
    steps: 5,
    lease_until: null,
    finished_at: "2026-01-01",
  });
  await insert("task", { id: task?.id, run_id: task?.run_id, parent_task_id: null, state: "completed" });
  const event = { run_id: task?.run_id, task_id: task?.id, type: "task.status", payload: { state: "completed" } };
  await insert("run_event", { ...event, seq: 1, lease_epoch: 2 });
  await insert("run_event", { ...event, seq: 3, lease_epoch: 1 });
  const step = { run_id: task?.run_id, task_id: task?.id, kind: "tool", state: "done", finished_at: "2026-01-01" };
  await insert("step", { ...step, id: "step_1", position: 2 });
  await insert("artifact", { run_id: task?.run_id, task_id: task?.id, id: "a", parts: [{ text: "never told" }] });
  const lines = await findBrokenPromises(database, other);
  expect([...new Set(lines.map((line) => line.slice(0, 22)))].toSorted()).toEqual([
    "a finished run holds n",
    "a finished task has ex",
    "artifacts are what the",
    "each finished step was",
    "each finished tool ste",
    "each model step's usag",
    "event numbers count fr",
    "events are written und",
    "steps of a completed t",
  ]);
});

test("an intake that did not wait for the disk is on it once it was made durable", async () => {
  await givenRun("later");
  const [written] = await database.inspect<{ lsn: string }>("SELECT pg_current_wal_insert_lsn() AS lsn");
  await makeDurable(database.as("public"), orgId);
  const [flushed] = await database.inspect<{ reached: boolean }>(
    "SELECT pg_current_wal_flush_lsn() >= $1::pg_lsn AS reached",
    [written?.lsn],
  );
  expect(flushed?.reached).toBe(true);
});
