import type { StartedOutside } from "@shaman/a2a-wire";
import { createExternalDirectory } from "@shaman/external";
import { systemClock } from "@shaman/kernel";
import { createOutbound } from "@shaman/outbound";
import { parseSecretKeys } from "@shaman/secrets";
import { createLogger } from "@shaman/telemetry";
import { acceptTestRun, testDatabase, type TestDatabase } from "@shaman/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";
import { cancelOutsideTasks, type CancelOutsideDeps } from "./cancel-outside.ts";

let database: TestDatabase;
let orgId: string;
let deps: CancelOutsideDeps;
let closeOutbound: () => Promise<void>;
beforeAll(async () => {
  database = await testDatabase();
  ({ orgId } = await database.givenOrg());
  const db = database.as("worker");
  const keys = parseSecretKeys(`test:${"A".repeat(43)}`);
  if (!keys.ok) throw new Error(keys.error);
  const outbound = createOutbound({ allowLoopback: true, mapLocalhost: true, allowHttp: true });
  const directory = createExternalDirectory({ db, clock: systemClock, secretKeys: keys.value, outbound });
  closeOutbound = outbound.close;
  deps = { db, directory, outbound, log: createLogger({ process: "test", level: "silent" }) };
});
afterAll(async () => {
  await closeOutbound();
  await database.close();
});

const INPUT: StartedOutside = {
  agent: "partner",
  message: "Do it",
  outside: {
    name: "partner",
    server: "partner",
    target: { kind: "registered", externalAgentId: "ext_1", name: "partner" },
  },
};

/** A call that the agent refused under one lease, of a run that ended under another; nobody told of a task there. */
const givenRefused = async (lease: { readonly refusedUnder: number; readonly last: number }): Promise<string> => {
  const { runId, taskId } = await acceptTestRun(database, { orgId });
  await database.inspect("UPDATE run SET lease_epoch = $2 WHERE id = $1", [runId, lease.last]);
  await database.inspect(
    `INSERT INTO step (org_id, id, run_id, task_id, position, kind, name, input_hash, state, input, output, lease_epoch)
      VALUES ($1, $2, $3, $2, 1, 'call', 'partner', 'h', 'started', $4, $5, $6)`,
    [orgId, taskId, runId, INPUT, { refusedUnder: lease.refusedUnder }, lease.last],
  );
  await database.inspect("INSERT INTO outside_cancel (org_id, task_id, position, run_id) VALUES ($1, $2, 1, $3)", [
    orgId,
    taskId,
    runId,
  ]);
  return taskId;
};

test.each([
  ["never left us where the last lease was refused", { refusedUnder: 2, last: 2 }, []],
  [
    "may have been taken where a later lease has sent it again",
    { refusedUnder: 1, last: 2 },
    ["external_outcome_unknown"],
  ],
])("a message %s", async (_what, lease, outcomes) => {
  const taskId = await givenRefused(lease);
  await cancelOutsideTasks(deps, new AbortController().signal);
  const audited = await database.inspect<{ outcome: string }>(
    "SELECT details->>'outcome' AS outcome FROM audit_log WHERE action = 'agent:cancel' AND task_id = $1",
    [taskId],
  );
  expect(audited.map(({ outcome }) => outcome)).toEqual(outcomes);
  expect(await database.inspect("SELECT 1 FROM outside_cancel WHERE task_id = $1", [taskId])).toEqual([]);
});
