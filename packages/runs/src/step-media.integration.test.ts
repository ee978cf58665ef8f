import { createHash } from "node:crypto";
import { acceptTestRun, testDatabase, type TestDatabase, QUIET_FAN_OUT } from "@shaman/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";
import { forgetStepMedia } from "./forget-media.ts";
import { claimRun, type LeasedRun } from "./lease.ts";
import { loadSteps } from "./load-steps.ts";
import { createRunRecorder } from "./run-recorder.ts";
import type { StepRecord } from "./step.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await testDatabase();
});
afterAll(() => database.close());

const claim = async ({ orgId, runId }: { readonly orgId: string; readonly runId: string }): Promise<LeasedRun> => {
  const run = await claimRun(database.as("worker"), { orgId, runId, leaseMs: 60_000, worker: "w" });
  if (run === undefined) throw new Error("The run could not be claimed");
  return run;
};

const givenRun = async (orgId?: string): Promise<LeasedRun> => {
  const owner = orgId ?? (await database.givenOrg()).orgId;
  const { runId } = await acceptTestRun(database, { orgId: owner });
  return claim({ orgId: owner, runId });
};

const imageOf = (content: string) => ({
  sha256: createHash("sha256").update(content).digest("hex"),
  base64: Buffer.from(content).toString("base64"),
});
const CAT = imageOf("a cat");
const DOG = imageOf("a dog");

const stepWith = (position: number, ...media: readonly (typeof CAT)[]): StepRecord => ({
  position,
  kind: "tool",
  name: "snap",
  inputHash: "h",
  state: "done",
  output: {
    text: "seen",
    isError: false,
    media: media.map(({ sha256 }) => ({ mediaType: "image/png", sha256, bytes: 5 })),
  },
  media: [...media],
});

const record = async (run: LeasedRun, steps: readonly StepRecord[], ends = false): Promise<void> => {
  const deps = { db: database.as("worker"), fanOut: QUIET_FAN_OUT };
  const recorder = createRunRecorder(deps, run, { coalesceMs: 0, coalesceBytes: 8_192 });
  for (const step of steps) recorder.step("Clerk", run.rootTaskId, step);
  if (ends) recorder.status({ taskId: run.rootTaskId, state: "completed" });
  await recorder.finish(
    ends
      ? { kind: "finished", state: "completed" }
      : { kind: "parked", retryAt: new Date(Date.now() - 1_000), counts: "nothing" },
  );
};

const keptOf = (run: LeasedRun) =>
  database.inspect<{ sha256: string; base64: string }>(
    "SELECT sha256, base64 FROM step_media WHERE run_id = $1 ORDER BY base64",
    [run.runId],
  );
const forget = () => forgetStepMedia({ db: database.as("worker") });

test("media of a step are kept once, beside it, and come back with it", async () => {
  const run = await givenRun();
  await record(run, [stepWith(1, CAT), stepWith(2, DOG, CAT), stepWith(3)]);
  expect(await keptOf(run)).toEqual([CAT, DOG]);
  const [row] = await database.inspect<{ rows: string }>(
    `SELECT (SELECT string_agg(s::text, '') FROM step s WHERE s.run_id = $1)
      || (SELECT string_agg(e::text, '') FROM run_event e WHERE e.run_id = $1) AS rows`,
    [run.runId],
  );
  expect(row?.rows).toContain(CAT.sha256);
  expect(row?.rows).not.toContain(CAT.base64);
  const loaded = await loadSteps(database.as("internal"), { orgId: run.orgId, taskId: run.rootTaskId });
  const byHash = (media: StepRecord["media"]) => media?.toSorted((a, b) => (a.base64 < b.base64 ? -1 : 1));
  expect(loaded.map(({ media }) => byHash(media))).toEqual([[CAT], [CAT, DOG], []]);
});

test("media of a step that a lost lease kept off the record are not kept either", async () => {
  const stale = await givenRun();
  await database.inspect("UPDATE run SET lease_until = now() - interval '1 second' WHERE id = $1", [stale.runId]);
  await claim(stale);
  await expect(record(stale, [stepWith(1, CAT)])).rejects.toMatchObject({ code: "lease_lost" });
  expect(await keptOf(stale)).toEqual([]);
});

test("media are forgotten when their run is over, and not while it may go on", async () => {
  const { orgId } = await database.givenOrg();
  const [over, open] = [await givenRun(orgId), await givenRun()];
  await record(over, [stepWith(1, CAT)], true);
  await record(open, [stepWith(1, CAT)]);
  expect(await forget()).toBeGreaterThan(0);
  expect(await forget()).toBe(0);
  expect(await keptOf(over)).toEqual([]);
  expect(await keptOf(open)).toEqual([CAT]);
});

test("whoever forgets media across organizations can neither read them nor delete those of a run that goes on", async () => {
  const run = await givenRun();
  await record(run, [stepWith(1, DOG)]);
  const worker = database.as("worker");
  const asSystem = (text: string) => worker.unscoped((tx) => tx.query({ text }));
  await expect(asSystem("SELECT base64 FROM step_media")).rejects.toThrow(/permission denied/);
  await asSystem("DELETE FROM step_media");
  expect(await keptOf(run)).toEqual([DOG]);
  const other = await database.givenOrg();
  const [seen] = await worker.batch(other.orgId, [{ text: "SELECT sha256 FROM step_media" }]);
  expect(seen?.rows).toEqual([]);
});
