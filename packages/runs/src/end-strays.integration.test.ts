import { newId } from "@shaman/kernel";
import { acceptTestRun, findBrokenPromises, testDatabase, type TestDatabase } from "@shaman/testkit";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { endStrays } from "./end-strays.ts";
import { claimRun, type LeasedRun } from "./lease.ts";
import type { Batch, RunOutcome } from "./batch.ts";
import { recordBatch } from "./record-batch.ts";
import { startStep } from "./start-step.ts";

let database: TestDatabase;
let orgId: string;
beforeAll(async () => {
  database = await testDatabase();
});
beforeEach(async () => {
  ({ orgId } = await database.givenOrg());
});
afterAll(() => database.close());

const WAITING = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";

const givenRun = async (): Promise<LeasedRun> => {
  const { runId } = await acceptTestRun(database, { orgId, agent: "Desk" });
  const run = await claimRun(database.as("worker"), { orgId, runId, leaseMs: 60_000, worker: "w" });
  if (run === undefined) throw new Error("not claimed");
  return run;
};

/** A call that begins under the run's lease, as the internal server commits it. */
const beginCall = ({ runId, rootTaskId, epoch, holder }: LeasedRun, position: number, child: string) =>
  startStep(database.as("internal"), {
    orgId,
    runId,
    taskId: rootTaskId,
    position,
    kind: "call",
    name: "Stock",
    inputHash: "h",
    input: {},
    leaseEpoch: epoch,
    leaseHolder: holder,
    child: { taskId: child, agent: "Stock" },
  });

const nothing: Omit<Batch, "outcome"> = {
  events: [],
  tasks: [],
  steps: [],
  artifacts: [],
  agentMessages: [],
  appliedCommands: [],
  audit: [],
};

/** Ends the run as a worker does that knows of no called agent. */
const fail = async (run: LeasedRun): Promise<void> => {
  const { runId, rootTaskId: taskId } = run;
  const outcome: RunOutcome = { kind: "finished", state: "failed" };
  const payload = { state: "failed", timestamp: "2026-01-01T00:00:00Z" } as const;
  const audit = {
    orgId,
    actor: "test",
    action: "task:failed",
    resource: taskId,
    result: "failed",
    runId,
    taskId,
    server: "worker",
  } as const;
  const recorded = await recordBatch(database.as("worker"), run, {
    ...nothing,
    events: [{ type: "task.status", payload, taskId }],
    tasks: [{ taskId, state: "failed" }],
    audit: [audit],
    outcome,
  });
  expect(recorded).toBeDefined();
};

/** Runs `meanwhile` while so many calls' starts have passed the lease's check and are not yet committed. */
const beginCallsAround = async (run: LeasedRun, count: number, meanwhile: () => Promise<void>): Promise<string[]> => {
  const children = Array.from({ length: count }, () => newId("task"));
  const held = Promise.withResolvers<void>();
  const inTheWay = Promise.withResolvers<void>();
  const undone = new Error("nothing of this stays");
  const holding = database
    .as("worker")
    .withOrg(orgId, async (tx) => {
      await tx.query({
        text: `INSERT INTO task (org_id, id, run_id, context_id, principal, agent, state)
          SELECT $1, id, 'run_0', 'ctx_0', 'key:0', 'x', 'submitted' FROM unnest($2::text[]) AS id`,
        values: [orgId, children],
      });
      inTheWay.resolve();
      await held.promise;
      throw undone;
    })
    .catch((error: unknown) => {
      if (error !== undone) throw error;
    });
  await inTheWay.promise;
  const begun = Promise.all(children.map((child, i) => beginCall(run, i + 1, child)));
  await expect.poll(() => database.inspect(WAITING)).toHaveLength(count);
  await meanwhile();
  held.resolve();
  await holding;
  await begun;
  return children;
};

const sweep = () => endStrays({ db: database.as("worker") });
const stateOf = async (taskId: string) =>
  (await database.inspect<{ state: string }>("SELECT state FROM task WHERE id = $1", [taskId]))[0]?.state;

test("a call that begins while its run ends has its task ended by the sweep, and the history is whole", async () => {
  const run = await givenRun();
  const [child = ""] = await beginCallsAround(run, 1, () => fail(run));
  expect(await stateOf(child)).toBe("submitted");
  expect(await findBrokenPromises(database, orgId)).toEqual([
    `no task of a finished run is open, and none ends after its parent: ${child}`,
  ]);
  expect(await sweep()).toBe(1);
  expect(await stateOf(child)).toBe("canceled");
  expect(await findBrokenPromises(database, orgId)).toEqual([]);
  expect(await sweep()).toBe(0);
});

test("sweeps of several workers at once end each task once", async () => {
  const run = await givenRun();
  const children = await beginCallsAround(run, 3, () => fail(run));
  await Promise.all([sweep(), sweep(), sweep(), sweep()]);
  expect(await Promise.all(children.map(stateOf))).toEqual(["canceled", "canceled", "canceled"]);
  expect(await findBrokenPromises(database, orgId)).toEqual([]);
});

test("tasks of a run that goes on are left alone", async () => {
  const run = await givenRun();
  const child = newId("task");
  await beginCall(run, 1, child);
  const parked: RunOutcome = { kind: "parked", retryAt: new Date(), counts: "nothing" };
  await recordBatch(database.as("worker"), run, { ...nothing, outcome: parked });
  expect(await sweep()).toBe(0);
  expect(await stateOf(child)).toBe("submitted");
});

test("no step begins in a task that has ended, although its run goes on", async () => {
  const run = await givenRun();
  await database.inspect("UPDATE task SET state = 'canceled' WHERE id = $1", [run.rootTaskId]);
  const child = newId("task");
  await expect(beginCall(run, 2, child)).rejects.toThrow("its task has ended");
  expect(await database.inspect("SELECT id FROM task WHERE id = $1", [child])).toEqual([]);
});
