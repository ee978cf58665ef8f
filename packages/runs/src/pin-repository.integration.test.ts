import { acceptTestRun, testDatabase, type TestDatabase } from "@shaman/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";
import { claimRun, type LeasedRun } from "./lease.ts";
import { pinRepository } from "./pin-repository.ts";

let database: TestDatabase;
let orgId: string;
beforeAll(async () => {
  database = await testDatabase();
  ({ orgId } = await database.givenOrg());
});
afterAll(() => database.close());

const WAITING = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";

const givenRun = async (): Promise<LeasedRun> => {
  const { runId } = await acceptTestRun(database, { orgId, repositoryId: "repo_own", commit: "own-1" });
  const run = await claimRun(database.as("worker"), { orgId, runId, leaseMs: 60_000, worker: "w" });
  if (run === undefined) throw new Error("not claimed");
  return run;
};

const pin = ({ runId, epoch, holder }: LeasedRun, repositoryId: string, commit: string) =>
  pinRepository(database.as("internal"), {
    orgId,
    runId,
    leaseEpoch: epoch,
    leaseHolder: holder,
    repositoryId,
    commit,
  });
const pinsOf = ({ runId }: LeasedRun) =>
  database.inspect<{ repository: string; commit: string }>(
    `SELECT repository_id AS repository, commit FROM run_pin WHERE run_id = $1 ORDER BY 1`,
    [runId],
  );

test("agents that come upon another repository at the same time all take it at one commit", async () => {
  const run = await givenRun();
  const commits = await Promise.all(Array.from({ length: 10 }, (_, i) => pin(run, "repo_other", `live-${i}`)));
  expect(new Set(commits).size).toBe(1);
  expect(await pinsOf(run)).toEqual([{ repository: "repo_other", commit: commits[0] }]);
  expect(await pin(run, "repo_other", "live-later")).toBe(commits[0]);
  expect(await pin(run, "repo_third", "third-1")).toBe("third-1");
});

test("one that is on its way to the table decides for who comes after it", async () => {
  const run = await givenRun();
  const first = Promise.withResolvers<void>();
  const inserted = Promise.withResolvers<void>();
  const writing = database.as("internal").withOrg(orgId, async (tx) => {
    const values = [orgId, run.runId];
    await tx.query({ text: "INSERT INTO run_pin VALUES ($1, $2, 'repo_other', 'first')", values });
    inserted.resolve();
    await first.promise;
  });
  await inserted.promise;
  const second = pin(run, "repo_other", "second");
  await expect.poll(() => database.inspect(WAITING)).toHaveLength(1);
  first.resolve();
  await writing;
  expect(await second).toBe("first");
});

test("a call that leads back into the run's own repository takes the run's commit, whatever is live", async () => {
  const run = await givenRun();
  expect(await pin(run, "repo_own", "own-2")).toBe("own-1");
});

test("nothing is pinned for a run whose lease is lost; what was pinned before can be read", async () => {
  const run = await givenRun();
  expect(await pin(run, "repo_other", "c1")).toBe("c1");
  const stale = { ...run, epoch: run.epoch - 1 };
  await expect(pin(stale, "repo_third", "c2")).rejects.toMatchObject({ code: "lease_lost" });
  expect(await pin(stale, "repo_other", "c2")).toBe("c1");
  expect(await pinsOf(run)).toHaveLength(1);
});
