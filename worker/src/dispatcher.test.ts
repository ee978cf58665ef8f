import type { HeardWakeUp, TakenJob } from "@shaman/queue";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { createDispatcher } from "./dispatcher.ts";

const wakeUp = (orgId: string, name: string): HeardWakeUp => ({
  orgId,
  jobId: name,
  name,
  priority: 3,
  data: {},
});

/** Queues of organizations in memory, as the port has them: taking is asynchronous, and an empty queue gives nothing. */
const givenQueues = (waiting: Readonly<Record<string, number>>) => {
  // A job is the names of the wake-ups in it.
  const queues = new Map(
    Object.entries(waiting).map(([orgId, count]) => [orgId, Array.from({ length: count }, (_, i) => [`${orgId}${i}`])]),
  );
  const jobsOf = (orgId: string): string[][] => {
    const jobs = queues.get(orgId) ?? [];
    queues.set(orgId, jobs);
    return jobs;
  };
  const takes: string[] = [];
  const finished: string[] = [];
  let failures = 0;
  const next = (orgId: string): TakenJob | undefined => {
    const names = jobsOf(orgId).shift();
    if (names === undefined) return undefined;
    const finish: TakenJob["finish"] = async ({ takeNext }) => {
      finished.push(...names);
      return takeNext ? next(orgId) : undefined;
    };
    return { orgId, wakeUps: names.map((name) => wakeUp(orgId, name)), finish };
  };
  const take = async (orgId: string): Promise<TakenJob | undefined> => {
    takes.push(orgId);
    if (failures > 0) {
      failures -= 1;
      throw new Error("the queue is away");
    }
    return next(orgId);
  };
  let keepsNothing = false;
  const giveBack = async (wakeUps: readonly HeardWakeUp[]): Promise<void> => {
    if (keepsNothing) throw new Error("the queue is away");
    for (const orgId of new Set(wakeUps.map((each) => each.orgId))) {
      jobsOf(orgId).unshift(wakeUps.filter((each) => each.orgId === orgId).map(({ name }) => name));
    }
  };
  const add = (orgId: string, ...names: string[]): void => void jobsOf(orgId).push(names);
  return {
    queue: { take, giveBack },
    add,
    jobsOf,
    takes,
    finished,
    failNext: (count: number) => void (failures = count),
    keepNothing: () => void (keepsNothing = true),
  };
};

type Options = { readonly slots?: number; readonly cap?: number; readonly elsewhere?: (orgId: string) => number };

const given = (
  waiting: Readonly<Record<string, number>>,
  { slots = 4, cap = 100, elsewhere = () => 0 }: Options = {},
) => {
  const queues = givenQueues(waiting);
  const started: string[] = [];
  const errors: unknown[] = [];
  const open = new Map<string, PromiseWithResolvers<void>>();
  const dispatcher = createDispatcher({
    queue: queues.queue,
    slots,
    capPerOrganization: cap,
    heldElsewhere: elsewhere,
    execute: ({ name }) => {
      started.push(name);
      const work = Promise.withResolvers<void>();
      open.set(name, work);
      return work.promise;
    },
    onError: (error) => void errors.push(error),
  });
  const end = (name: string): void => {
    open.get(name)?.resolve();
    open.delete(name);
  };
  return { ...queues, dispatcher, started, errors, open, end };
};

/** Lets everything that can go on without an outside event do so. */
const settle = async (): Promise<void> => {
  for (let i = 0; i < 50; i += 1) await Promise.resolve();
};

const of = (orgId: string, names: readonly string[]): number => names.filter((name) => name.startsWith(orgId)).length;

describe("a dispatcher", () => {
  test("fills all slots with one organization's runs while nobody else waits", async () => {
    const { dispatcher, started } = given({ a: 10 });
    dispatcher.nudge("a");
    await settle();
    expect(started).toEqual(["a0", "a1", "a2", "a3"]);
    expect(dispatcher.running()).toBe(4);
  });

  test("gives none more than half of the slots while another organization waits", async () => {
    const { dispatcher, started } = given({ a: 10, b: 10 });
    dispatcher.nudge("a");
    dispatcher.nudge("b");
    await settle();
    expect([of("a", started), of("b", started)]).toEqual([2, 2]);
  });

  test("brings whoever held all slots back to half of them as they become free", async () => {
    const { dispatcher, started, end } = given({ a: 20, b: 20 }, { slots: 4 });
    dispatcher.nudge("a");
    await settle();
    dispatcher.nudge("b");
    for (let i = 0; i < 4; i += 1) {
      end(`a${i}`);
      await settle();
    }
    expect(of("b", started)).toBeGreaterThanOrEqual(2);
    expect(dispatcher.running()).toBe(4);
    const open = started.filter((name) => !["a0", "a1", "a2", "a3"].includes(name));
    expect(of("a", open)).toBeLessThanOrEqual(2);
  });

  test("serves a newcomer with the first slot that becomes free, however many runs another has queued", async () => {
    const { dispatcher, started, end } = given({ a: 1_000, b: 1 }, { slots: 4 });
    dispatcher.nudge("a");
    await settle();
    dispatcher.nudge("b");
    end("a1");
    await settle();
    expect(started.at(-1)).toBe("b0");
  });

  test("takes turns among many organizations", async () => {
    const orgs = ["a", "b", "c", "d", "e", "f"];
    const { dispatcher, started, open, end } = given(Object.fromEntries(orgs.map((org) => [org, 6])), { slots: 2 });
    for (const org of orgs) dispatcher.nudge(org);
    await settle();
    while (open.size > 0) {
      for (const name of open.keys()) end(name);
      await settle();
    }
    expect(started).toHaveLength(36);
    // After each full turn nobody is more than one turn ahead of anybody.
    for (let taken = orgs.length; taken <= started.length; taken += orgs.length) {
      const counts = orgs.map((org) => of(org, started.slice(0, taken)));
      expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(2);
    }
  });

  test("keeps an organization within its cap, what other workers hold included", async () => {
    const { dispatcher, started, end } = given({ a: 10 }, { slots: 10, cap: 5, elsewhere: () => 2 });
    dispatcher.nudge("a");
    await settle();
    expect(started).toHaveLength(3);
    end("a0");
    await settle();
    expect(started).toHaveLength(4);
  });

  test("still serves one slot's worth where there is but one slot", async () => {
    const { dispatcher, started, end } = given({ a: 2, b: 2 }, { slots: 1 });
    dispatcher.nudge("a");
    dispatcher.nudge("b");
    for (const name of ["a0", "b0", "a1"]) {
      await settle();
      end(name);
    }
    await settle();
    expect(started).toEqual(["a0", "b0", "a1", "b1"]);
  });

  test("loses no nudge that comes while it asks an empty queue", async () => {
    const { dispatcher, started, add } = given({});
    dispatcher.nudge("a");
    // The queue has been asked, and its answer is on its way.
    add("a", "late");
    dispatcher.nudge("a");
    await settle();
    expect(started).toEqual(["late"]);
  });

  test("asks a queue no more once it is empty", async () => {
    const { dispatcher, takes, end } = given({ a: 1 });
    dispatcher.nudge("a");
    await settle();
    end("a0");
    await settle();
    const asked = takes.length;
    await settle();
    expect(takes.length).toBe(asked);
    expect(asked).toBeLessThanOrEqual(2);
    expect(dispatcher.running()).toBe(0);
  });

  test("starts all that was added together, and gives back what has no slot or would go beyond the cap", async () => {
    const { dispatcher, started, jobsOf, add, end } = given({}, { slots: 10, cap: 3 });
    add("a", "a0", "a1", "a2", "a3", "a4");
    dispatcher.nudge("a");
    await settle();
    expect(started).toEqual(["a0", "a1", "a2"]);
    expect(jobsOf("a")).toEqual([["a3", "a4"]]);
    end("a1");
    await settle();
    expect(started.slice(3)).toEqual(["a3"]);
    expect(jobsOf("a")).toEqual([["a4"]]);
  });

  test("takes a job off the queue also where what has no slot cannot be given back", async () => {
    const { dispatcher, errors, finished, add, keepNothing, end, started } = given({}, { cap: 1 });
    keepNothing();
    add("a", "a0", "a1");
    add("a", "a2");
    dispatcher.nudge("a");
    await settle();
    expect([finished, errors.length]).toEqual([["a0", "a1"], 1]);
    end("a0");
    await settle();
    expect(started).toEqual(["a0", "a2"]);
  });

  test("goes on after a job that woke nothing, whose slot is free again", async () => {
    const { dispatcher, started, add } = given({});
    add("a");
    add("a", "a0");
    dispatcher.nudge("a");
    await settle();
    expect([started, dispatcher.running()]).toEqual([["a0"], 1]);
  });

  test("leaves half of the slots to others that wait, whatever was added together", async () => {
    const { dispatcher, started, add } = given({ b: 2 }, { slots: 4 });
    add("a", "a0", "a1", "a2", "a3");
    dispatcher.nudge("a");
    dispatcher.nudge("b");
    await settle();
    expect([of("a", started), of("b", started)]).toEqual([2, 2]);
  });

  test("gives its slots back when the queue is away or the work fails, and goes on", async () => {
    const { dispatcher, started, errors, failNext, open } = given({ a: 3 }, { slots: 1 });
    failNext(1);
    dispatcher.nudge("a");
    await settle();
    expect(errors).toHaveLength(1);
    expect(dispatcher.running()).toBe(0);
    dispatcher.nudge("a");
    await settle();
    open.get("a0")?.reject(new Error("broken"));
    await settle();
    expect(started).toEqual(["a0", "a1"]);
    expect(errors).toHaveLength(2);
  });

  test("asks a queue that is away once in half a second, however often it was told of a job", async () => {
    vi.useFakeTimers();
    onTestFinished(() => void vi.useRealTimers());
    const { dispatcher, takes, failNext } = given({ a: 3 }, { slots: 30 });
    failNext(1_000);
    for (let i = 0; i < 5; i += 1) dispatcher.nudge("a");
    await settle();
    for (let rounds = 0; rounds < 10; rounds += 1) {
      const before = takes.length;
      await vi.advanceTimersByTimeAsync(500);
      await settle();
      expect(takes.length - before).toBe(1);
    }
  });

  test("drains: starts nothing new, and is done when the last run is", async () => {
    const { dispatcher, started, end } = given({ a: 10, b: 1 }, { slots: 2 });
    dispatcher.nudge("a");
    await settle();
    let drained = false;
    const done = dispatcher.drain().then(() => (drained = true));
    dispatcher.nudge("b");
    end("a0");
    await settle();
    expect([started, drained]).toEqual([["a0", "a1"], false]);
    end("a1");
    await done;
    expect(started).toEqual(["a0", "a1"]);
  });

  test("begins what needs no job only where a job could begin as well, and frees its slot in the end", async () => {
    const { dispatcher, started, end } = given({ b: 1 }, { slots: 4, cap: 3 });
    const work = Promise.withResolvers<void>();
    const begin = (orgId: string): boolean => dispatcher.begin(orgId, () => work.promise);
    expect([begin("a"), begin("a"), begin("a")]).toEqual([true, true, true]);
    expect([begin("a"), dispatcher.running("a")]).toEqual([false, 3]);
    dispatcher.nudge("b");
    await settle();
    expect([started, begin("c")]).toEqual([["b0"], false]);
    end("b0");
    work.resolve();
    await settle();
    expect([dispatcher.running(), begin("a")]).toEqual([0, true]);
  });

  test("begins nothing beyond half of the slots while another organization waits", async () => {
    const { dispatcher } = given({ b: 9 }, { slots: 4, elsewhere: (orgId) => (orgId === "b" ? 100 : 0) });
    const forever = (): Promise<void> => new Promise(() => undefined);
    dispatcher.nudge("b");
    const begun = [1, 2, 3].map(() => dispatcher.begin("a", forever));
    expect([begun, dispatcher.running()]).toEqual([[true, true, false], 2]);
  });

  test("begins nothing of an organization that has runs in its queue: they come first", async () => {
    const { dispatcher, end, started } = given({ a: 20 }, { slots: 10, cap: 5 });
    dispatcher.nudge("a");
    await settle();
    end("a0");
    end("a1");
    // One slot is being filled from the queue, one is free.
    expect(dispatcher.begin("a", async () => undefined)).toBe(false);
    expect(dispatcher.closedTo()).toEqual(["a"]);
    await settle();
    expect(started).toHaveLength(7);
  });

  test("says for whom it would begin nothing: those with runs in the queue, and everybody where no slot is free or it drains", async () => {
    const { dispatcher, end } = given({ a: 3, b: 1 }, { slots: 3, cap: 2 });
    expect(dispatcher.closedTo()).toEqual([]);
    dispatcher.nudge("a");
    await settle();
    expect(dispatcher.closedTo()).toEqual(["a"]);
    dispatcher.nudge("b");
    await settle();
    expect(dispatcher.closedTo()).toBe("everybody");
    end("b0");
    end("a0");
    end("a1");
    await settle();
    expect(dispatcher.closedTo()).toEqual([]);
    void dispatcher.drain();
    expect([dispatcher.closedTo(), dispatcher.begin("a", async () => undefined)]).toEqual(["everybody", false]);
  });
});
