import type { Db } from "@shaman/db";
import { CHANNELS, type FanOut, type WakeUp } from "@shaman/queue";
import { watchOffers, type ClosedTo, type LeasedRun, type Offers } from "@shaman/runs";
import { localFanOut } from "@shaman/testkit";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { takeAssignedRuns } from "./assigned-runs.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const run = (runId: string, { orgId = "a", ageMs = 0, announced = false } = {}): string =>
  JSON.stringify({
    orgId,
    runId,
    rootTaskId: "task_1",
    contextId: "ctx_1",
    agent: "Clerk",
    repositoryId: "repo_1",
    commit: "c1",
    principal: "key:1",
    apiKeyId: null,
    userId: null,
    traceparent: null,
    holder: "w:1",
    priority: 2,
    announced,
    at: Date.now() - ageMs,
    deadline: Date.now() + 60_000,
    limits: {},
    message: { parts: [] },
  });

const given = async ({ releases = true, isOurs = true }: { releases?: boolean; isOurs?: boolean } = {}) => {
  const local = localFanOut();
  let isDeaf = false;
  const fanOut: FanOut = {
    ...local,
    publish: (channel, payload) => {
      if (channel === CHANNELS.offers || !isDeaf) local.publish(channel, payload);
    },
  };
  const offers: Offers = await watchOffers({ fanOut });
  const begun: string[] = [];
  const withdrawn: string[] = [];
  let onRecord = isOurs;
  const added: WakeUp[] = [];
  const errors: unknown[] = [];
  let hasSlot = true;
  let closedTo: ClosedTo = [];
  const assigned = await takeAssignedRuns({
    // `together` gives whatever the work it is handed gives; the only work here is a release.
    db: {
      together: async () => releases,
      batch: async () => [{ rows: onRecord ? [{ id: "run_old" }] : [], rowCount: 1 }],
    } as unknown as Db,
    fanOut,
    queue: { add: async (wakeUp) => void added.push(wakeUp) },
    jobs: {
      begin: (_orgId, work) => {
        if (hasSlot) void work();
        return hasSlot;
      },
      closedTo: () => closedTo,
    },
    worker: "w",
    leaseMs: 30_000,
    workOn: async ({ runId }: LeasedRun, { leaseMs }) => void begun.push(`${runId} for ${leaseMs} ms`),
    withdraw: (runId) => void withdrawn.push(runId),
    onError: (error) => void errors.push(error),
  });
  const assign = (text: string, orgId = "a"): boolean => {
    const offer = offers.find(orgId);
    if (offer !== undefined) offers.assign(offer, text);
    return offer !== undefined;
  };
  const close = (to: ClosedTo): void => {
    hasSlot = false;
    closedTo = to;
  };
  return {
    assigned,
    assign,
    begun,
    withdrawn,
    added,
    errors,
    close,
    offers,
    goDeaf: () => void (isDeaf = true),
    comeOnRecord: () => void (onRecord = true),
  };
};

const settle = () => vi.advanceTimersByTimeAsync(1);

test("begins what is assigned to it, under a lease that is short at first", async () => {
  const { assign, begun, added } = await given();
  expect(assign(run("run_1"))).toBe(true);
  expect([begun, added]).toEqual([["run_1 for 5000 ms"], []]);
  expect(assign("no JSON")).toBe(true);
  expect(begun).toHaveLength(1);
});

test("passes on to the queue what has no slot, and says at once for whom it has none", async () => {
  const { assign, added, close, begun } = await given();
  close([]);
  assign(run("run_1"));
  await settle();
  expect(added).toMatchObject([{ orgId: "a", jobId: "run_1-1", priority: 2, data: { runId: "run_1", wake: 1 } }]);
  expect([begun, assign(run("run_2")), assign(run("run_3", { orgId: "b" }), "b")]).toEqual([[], false, true]);
});

test("queues nothing whose lease is gone: somebody else has the run", async () => {
  const { assign, added, close } = await given({ releases: false });
  close([]);
  assign(run("run_1"));
  await settle();
  expect(added).toEqual([]);
});

test("passes on what was announced once it is on record, and forgets what does not come on record", async () => {
  const { assigned, assign, added, close, comeOnRecord, errors } = await given({ isOurs: false });
  close([]);
  assign(run("run_1", { announced: true }));
  await settle();
  expect(added).toEqual([]);
  comeOnRecord();
  await assigned.close();
  expect([added, errors]).toMatchObject([[{ jobId: "run_1-1" }], []]);
  const never = await given({ isOurs: false });
  never.close([]);
  never.assign(run("run_2", { announced: true }));
  await never.assigned.close();
  expect([never.added, never.errors]).toEqual([[], []]);
});

test("begins what was announced and it hears of late as soon as it is on record, and nothing that is not", async () => {
  const late = run("run_old", { ageMs: 1_500, announced: true });
  const { assigned, assign, begun, comeOnRecord } = await given({ isOurs: false });
  assign(late);
  await settle();
  expect(begun).toEqual([]);
  comeOnRecord();
  await vi.waitFor(() => expect(begun).toEqual(["run_old for 30000 ms"]));
  await assigned.close();
  const never = await given({ isOurs: false });
  never.assign(late);
  await never.assigned.close();
  expect([never.begun, never.errors]).toEqual([[], []]);
});

test("stops what is withdrawn", async () => {
  const { assign, begun, withdrawn, offers } = await given();
  const offer = offers.find("a");
  assign(run("run_1", { announced: true }));
  if (offer !== undefined) offers.withdraw(offer, "run_1");
  expect([begun, withdrawn]).toEqual([["run_1 for 5000 ms"], ["run_1"]]);
});

test("offers again as long as it lives, and no more from when it closes, but passes on what is on its way", async () => {
  const { assigned, assign, added, close, offers } = await given();
  await vi.advanceTimersByTimeAsync(10_000);
  const offer = offers.find("a");
  expect(offer).toBeDefined();
  close("everybody");
  const closed = assigned.close();
  expect(assign(run("run_1"))).toBe(false);
  if (offer !== undefined) offers.assign(offer, run("run_late"));
  await vi.advanceTimersByTimeAsync(200);
  await closed;
  expect(added).toMatchObject([{ jobId: "run_late-1" }]);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(assign(run("run_2"))).toBe(false);
});

test("begins what it hears of late only where its lease still stands, which then is as long as any", async () => {
  const late = run("run_old", { ageMs: 1_500 });
  const ours = await given();
  ours.assign(late);
  await settle();
  expect([ours.begun, ours.added]).toEqual([["run_old for 30000 ms"], []]);
  const done = await given({ isOurs: false });
  done.assign(late);
  await settle();
  expect([done.begun, done.added, done.errors]).toEqual([[], [], []]);
});

test("counts its lease from when the run was accepted", async () => {
  const { assign, begun } = await given();
  assign(run("run_1", { ageMs: 400 }));
  expect(begun).toEqual(["run_1 for 4600 ms"]);
});

test("offers nothing while it would not hear of runs", async () => {
  const { goDeaf, offers } = await given();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(offers.find("a")).toBeDefined();
  goDeaf();
  await vi.advanceTimersByTimeAsync(2_001);
  expect(offers.find("a")).toBeUndefined();
});
