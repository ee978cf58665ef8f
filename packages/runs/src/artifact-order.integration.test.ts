import { acceptTestRun, QUIET_FAN_OUT, testDatabase, type TestDatabase } from "@shaman/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";
import { claimRun } from "./lease.ts";
import { createRunRecorder } from "./run-recorder.ts";
import { findTask } from "./task-view.ts";

let database: TestDatabase;
let orgId: string;
beforeAll(async () => {
  database = await testDatabase();
  ({ orgId } = await database.givenOrg());
});
afterAll(() => database.close());

test("a task has its artifacts in the order in which they came, also those of one commit", async () => {
  const { runId } = await acceptTestRun(database, { orgId });
  const db = database.as("worker");
  const run = await claimRun(db, { orgId, runId, leaseMs: 60_000, worker: "w" });
  if (run === undefined) throw new Error("The run could not be claimed");
  const taskId = run.rootTaskId;
  const recorder = createRunRecorder({ db, fanOut: QUIET_FAN_OUT }, run, {
    coalesceMs: 60_000,
    coalesceBytes: 100_000,
  });
  for (const artifactId of ["zebra", "ant", "mole"]) {
    void recorder.artifact(taskId, { artifactId, parts: [{ text: artifactId }], append: false, lastChunk: true });
  }
  recorder.status({ taskId, state: "completed" });
  await recorder.finish({ kind: "finished", state: "completed" });
  const task = await findTask(database.as("public"), { orgId, taskId });
  expect(task?.artifacts.map(({ artifactId }) => artifactId)).toEqual(["zebra", "ant", "mole"]);
});
