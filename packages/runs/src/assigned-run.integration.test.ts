import { newId, type JsonObject } from "@shaman/kernel";
import { createPostgresFanOut, type WakeUp } from "@shaman/queue";
import { acceptTestRun, QUIET_QUEUE, testDatabase, whenRow, type TestDatabase } from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { AcceptDeps, AcceptInput } from "./accept.ts";
import { readAssignedRun } from "./assigned-run.ts";
import { claimRun, isOnRecord, releaseRun, renewLeases, type LeasedRun } from "./lease.ts";
import { callOut, onAssigned, watchOffers, type Offers } from "./offers.ts";
import { recordBatch } from "./record-batch.ts";
import { sweepRuns } from "./sweep.ts";

let database: TestDatabase;
let orgId: string;
beforeAll(async () => {
  database = await testDatabase();
  ({ orgId } = await database.givenOrg());
});
afterAll(() => database.close());

const OFFER = { worker: "w1", address: "here", leaseMs: 5_000 };

const NO_OFFERS: Offers = {
  find: () => undefined,
  channelOf: () => undefined,
  assign: () => undefined,
  onRecord: () => undefined,
  withdraw: () => undefined,
};

/** Accepts a message while worker `w1` offers to begin runs. Gives what it is told, and what comes into the queue. */
const accept = async (input: Partial<AcceptInput> = {}) => {
  const told: string[] = [];
  const added: WakeUp[] = [];
  const offers: Offers = { ...NO_OFFERS, find: () => OFFER, assign: (_offer, run) => void told.push(run) };
  const queue = { ...QUIET_QUEUE, add: async (wakeUp: WakeUp) => void added.push(wakeUp) };
  const accepted = await acceptTestRun(database, { orgId, ...input }, { offers, queue });
  return { accepted, told, added };
};

const assigned = async (input?: Partial<AcceptInput>): Promise<LeasedRun> => {
  const { told } = await accept(input);
  const run = readAssignedRun(told[0] ?? "");
  if (run === undefined) throw new Error("not assigned");
  return run.run;
};

const saying = (parts: JsonObject[]): JsonObject => ({ messageId: "m", role: "ROLE_USER", parts });

const claim = (runId: string) => claimRun(database.as("worker"), { orgId, runId, leaseMs: 60_000, worker: "w2" });

const rowOf = async (runId: string) => (await database.inspect("SELECT * FROM run WHERE id = $1", [runId]))[0];

test("an idle worker is told of the run with its lease, and nothing is queued", async () => {
  const { accepted, told, added } = await accept();
  expect([told.length, added]).toEqual([1, []]);
  const { run, acceptedAt } = readAssignedRun(told[0] ?? "") ?? {};
  expect(acceptedAt).toEqual(accepted.at);
  expect(await rowOf(accepted.runId)).toMatchObject({
    state: "working",
    lease_epoch: 1,
    worker: run?.holder,
    barren_claims: 1,
    deadline: run?.deadline,
    started_at: expect.any(Date),
  });
  expect(run?.holder).toMatch(/^w1:/);
  expect(await claim(accepted.runId)).toBeUndefined();
});

test("what it is told is what a claim would give it, down to the order of keys and what cannot be stored", async () => {
  const message = saying([
    { text: "nul \u0000, half \ud800", metadata: { b: 1, a: 2 } },
    { data: { long: 1, z: [{ yy: 1, x: "é", é: 2 }], 10: "ten", 9: null, A: 1.5e300, "": true } },
  ]);
  const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  const told = await assigned({ message, traceparent, userId: "user_1", priority: 2, contextId: "ctx_mine" });
  expect(await releaseRun(database.as("worker"), told)).toBe(true);
  const claimed = await claim(told.runId);
  expect(claimed).toEqual({ ...told, epoch: 2, holder: claimed?.holder, deadline: claimed?.deadline });
  expect(JSON.stringify(claimed?.messages)).toBe(JSON.stringify(told.messages));
});

test("a run whose spending is limited, or that is too large to be told of, goes into the queue", async () => {
  const large = saying([{ text: "x".repeat(8_000) }]);
  for (const input of [{ spendIsLimited: true }, { message: large }]) {
    const { accepted, told, added } = await accept(input);
    expect(told).toEqual([]);
    expect(added).toMatchObject([{ orgId, data: { runId: accepted.runId, wake: 1 } }]);
    expect(await rowOf(accepted.runId)).toMatchObject({ state: "submitted", lease_epoch: 0, lease_until: null });
  }
});

test("a repeat of a message is assigned to nobody", async () => {
  const first = await accept({ messageId: "again", message: saying([{ text: "hello" }]) });
  const second = await accept({ messageId: "again", message: saying([{ text: "hello" }]) });
  expect(second.accepted).toMatchObject({ created: false, runId: first.accepted.runId });
  expect([second.told, second.added]).toEqual([[], []]);
});

test("by NOTIFY a worker is told of each new run once, whether its commit waits for the disk or not", async () => {
  const address = "a".repeat(20);
  const options = { name: "test", onError: (error: Error): never => expect.unreachable(error.message) };
  const fanOut = createPostgresFanOut({ ...options, db: database.as("worker"), url: database.roleUrls.worker });
  onTestFinished(() => fanOut.close());
  const offers = await watchOffers({ fanOut });
  const heard: string[] = [];
  const all = Promise.withResolvers<void>();
  await onAssigned(fanOut, address, {
    run: ({ run }) => void heard.push(run.runId),
    withdrawn: expect.unreachable,
    heard: all.resolve,
  });
  const offer = { worker: "w1", address, leaseMs: 5_000 };
  const published: string[] = [];
  const mine: Offers = {
    ...offers,
    find: () => offer,
    assign: (to, run) => {
      published.push(run);
      offers.assign(to, run);
    },
  };
  const take = async (input: Partial<AcceptInput>): Promise<string> => {
    const { runId } = await acceptTestRun(database, { orgId, ...input }, { offers: mine, calls: { total: () => 1 } });
    return runId;
  };
  const told = { messageId: "told by its commit", message: saying([{ text: "hello" }]), durable: "later" } as const;
  const first = await take(told);
  expect(published).toEqual([]);
  await take(told);
  const second = await take({ durable: "at once" });
  expect(published).toHaveLength(1);
  callOut(fanOut, address);
  await all.promise;
  expect(heard).toEqual([first, second]);
});

const WAITS_FOR_A_LOCK =
  "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";

describe("a run that is announced", () => {
  /** Accepts a message where few are under way and no NOTIFY can tell the worker; what it hears, with what is on record then. */
  const announce = async (input: Partial<AcceptInput> = {}, deps: Partial<AcceptDeps> = {}) => {
    const heard: [string, Promise<unknown>][] = [];
    const seen = (runId: string) => rowOf(runId).then((row) => row !== undefined);
    const idOf = (text: string) => readAssignedRun(text)?.run;
    const offers: Offers = {
      ...NO_OFFERS,
      find: () => OFFER,
      assign: (_offer, text) => {
        const { runId = "", announced } = idOf(text) ?? {};
        heard.push([`run, ${announced === true ? "announced" : "on record"}`, seen(runId)]);
      },
      onRecord: (runId) => void heard.push(["on record", seen(runId)]),
      withdraw: (_offer, runId) => void heard.push(["withdrawn", seen(runId)]),
    };
    const all = { offers, calls: { total: () => 2 }, ...deps };
    const accepted = await acceptTestRun(database, { orgId, durable: "later", ...input }, all).catch(
      (error: unknown) => error,
    );
    return { accepted, heard: heard.map(([word]) => word), onRecord: await Promise.all(heard.map(([, row]) => row)) };
  };

  test("is told of while it is written, and again once it is on record", async () => {
    const letGo = await database.holdWrites("message");
    const announced = announce({ messageId: "announced" });
    await whenRow(database, WAITS_FOR_A_LOCK);
    await letGo();
    const { heard, onRecord } = await announced;
    expect([heard, onRecord]).toEqual([
      ["run, announced", "on record"],
      [false, true],
    ]);
  });

  test("is withdrawn where it is a repeat, but not where nobody knows", async () => {
    const message = saying([{ text: "hello" }]);
    await accept({ messageId: "twice", message });
    expect(await announce({ messageId: "twice", message })).toMatchObject({
      accepted: { created: false },
      heard: ["run, announced", "withdrawn"],
      onRecord: [false, false],
    });
    const db = { ...database.as("public"), together: () => Promise.reject(new Error("away")) };
    // It may be on record all the same.
    expect(await announce({}, { db })).toMatchObject({ accepted: new Error("away"), heard: ["run, announced"] });
  });

  test("is told of only when it is on record where more is under way, or nobody waits for its end", async () => {
    expect(await announce({}, { calls: { total: () => 3 } })).toMatchObject({
      heard: ["run, on record"],
      onRecord: [true],
    });
    expect(await announce({ durable: "at once" })).toMatchObject({ heard: ["run, on record"] });
  });

  test("is waited for before its lease is given back", async () => {
    const [db, told] = [database.as("worker"), await assigned()];
    expect(await isOnRecord(db, told)).toBe(true);
    expect(await isOnRecord(db, { ...told, holder: "w1:other" })).toBe(false);
    expect(await isOnRecord(db, { ...told, runId: newId("run") })).toBe(false);
  });
});

test("what is recorded under the lease counts, and renewing makes it as long as any", async () => {
  const run = await assigned();
  const db = database.as("worker");
  const held = [{ runId: run.runId, epoch: run.epoch }];
  expect(await renewLeases(db, { orgId, worker: "w1", leaseMs: 60_000, held })).toEqual(new Set([run.runId]));
  const status = { state: "completed", timestamp: "2026-01-01T00:00:00Z" } as const;
  const recorded = await recordBatch(db, run, {
    events: [{ type: "task.status", payload: status, taskId: run.rootTaskId }],
    tasks: [{ taskId: run.rootTaskId, state: "completed" }],
    steps: [],
    artifacts: [],
    agentMessages: [],
    appliedCommands: [],
    audit: [],
    outcome: { kind: "finished", state: "completed" },
  });
  expect(recorded?.lastSeq).toBe(2);
  expect(await rowOf(run.runId)).toMatchObject({ state: "completed", lease_until: null });
});

test("one that could not be begun is as if it had only been accepted; only its worker may give it up, and once", async () => {
  const run = await assigned();
  const db = database.as("worker");
  expect(await releaseRun(db, { ...run, holder: "w1:other" })).toBe(false);
  expect(await releaseRun(db, run)).toBe(true);
  expect(await rowOf(run.runId)).toMatchObject({
    state: "submitted",
    lease_until: null,
    worker: null,
    barren_claims: 0,
    started_at: null,
    deadline: null,
  });
  expect(await releaseRun(db, run)).toBe(false);
  expect(await claim(run.runId)).toMatchObject({ epoch: 2, barrenClaims: 1 });
  expect(await releaseRun(db, run)).toBe(false);
});

test("one whose worker never heard of it is woken as soon as its short lease has run out", async () => {
  const { accepted } = await accept();
  const added: WakeUp[] = [];
  const queue = { ...QUIET_QUEUE, addAgain: async (wakeUp: WakeUp) => void added.push(wakeUp) };
  const sweep = () => sweepRuns({ db: database.as("worker"), queue, nudge: () => undefined }, { afterMs: 60_000 });
  await sweep();
  expect(added.map(({ data }) => data.runId)).not.toContain(accepted.runId);
  await database.inspect(
    `UPDATE run SET enqueued_at = now() - interval '6 seconds', lease_until = now() - interval '1 second' WHERE id = $1`,
    [accepted.runId],
  );
  await sweep();
  expect(added.map(({ data }) => data.runId)).toContain(accepted.runId);
  // Its time has not begun.
  const before = await rowOf(accepted.runId);
  const claimed = await claim(accepted.runId);
  expect(claimed).toMatchObject({ epoch: 2, barrenClaims: 2 });
  expect(claimed?.deadline.getTime()).toBeGreaterThan(before?.deadline.getTime());
});
