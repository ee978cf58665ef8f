import {
  BACKENDS,
  findBrokenPromises,
  startOrderScene,
  startRedis,
  whenRow,
  whenSeen,
  type OrderScene,
  type RedisServer,
} from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const SLOTS = 3;

describe.each(BACKENDS)("runs that are assigned to a worker, on %s", (backend) => {
  let scene: OrderScene;
  let redis: RedisServer | undefined;
  const gate = Promise.withResolvers<void>();
  // Orders of which the model was asked while their run was not on record.
  const tooEarly: string[] = [];
  const lookUp = async (order: string): Promise<void> => {
    const text =
      "SELECT 1 FROM message m JOIN run r ON r.id = m.run_id WHERE starts_with(m.content->'parts'->0->>'text', $1)";
    if ((await scene.shaman.database.inspect(text, [order])).length === 0) tooEarly.push(order);
  };
  beforeAll(async () => {
    redis = backend === "redis" ? await startRedis() : undefined;
    scene = await startOrderScene({
      ...(redis !== undefined && { redisUrl: redis.url }),
      env: { WORKER_CONCURRENCY: String(SLOTS) },
      reply: ({ order }) => ({
        text: ["done"],
        before: order.startsWith("order-held") ? gate.promise : lookUp(order),
      }),
    });
  });
  afterAll(async () => {
    gate.resolve();
    await scene.close();
    await redis?.close();
  });

  const ordersNamed = (name: string, count: number): string[] =>
    Array.from({ length: count }, (_, i) => `order-${name}-${i}`);

  const sendAll = (orders: readonly string[]) => Promise.all(orders.map((order) => scene.send(order)));

  /** How many runs were on record under a lease from the very beginning, and were claimed all the same. */
  const countClaimedAnew = async (): Promise<number> => {
    const rows = await scene.shaman.database.inspect(
      "SELECT 1 FROM run WHERE org_id = $1 AND lease_epoch > 1 AND last_seq > 1",
      [scene.org.orgId],
    );
    return rows.length;
  };

  /** Sends orders until one is assigned to the worker as it is accepted: its offer may be on its way yet. */
  const whenAssigned = () =>
    whenSeen("an assigned run", async () => {
      const { id, status } = await scene.send(`order-${Math.random()}`);
      expect(status.state).toBe("TASK_STATE_COMPLETED");
      const [run] = await scene.shaman.database.inspect(
        "SELECT id FROM run WHERE root_task_id = $1 AND started_at = created_at AND lease_epoch = 1",
        [id],
      );
      return run;
    });

  const slotsUsed = async (): Promise<number> => {
    const metrics = await fetch(`${scene.shaman.workerUrl}/metrics`);
    return Number(/^shaman_worker_slots_used (\d+)$/m.exec(await metrics.text())?.[1]);
  };

  test("an idle worker gets a run as it is accepted", async () => {
    expect(await whenAssigned()).toBeDefined();
  });

  /** Sends an order whose intake takes until a worker that is told of it before that has begun. */
  const sendSlowly = async (order: string) => {
    const { database } = scene.shaman;
    const letGo = await database.holdWrites("message");
    const answer = scene.send(order);
    try {
      const waits = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
      await whenRow(database, waits);
      const slots = backend === "redis" ? 1 : 0;
      await whenSeen("what is prepared meanwhile", async () => (await slotsUsed()) === slots || undefined);
    } finally {
      await letGo();
    }
    return answer;
  };

  test("one that is told of a run while it is written asks no model before it is on record", async () => {
    await whenAssigned();
    expect((await sendSlowly("order-slow")).status.state).toBe("TASK_STATE_COMPLETED");
    expect([scene.modelCalls.get("order-slow"), tooEarly]).toEqual([1, []]);
  });

  test("a repeat of a message is answered from the first, and occupies no worker", async () => {
    await whenAssigned();
    const first = await scene.send("order-twice");
    expect(await scene.send("order-twice")).toEqual(first);
    expect(scene.modelCalls.get("order-twice")).toBe(1);
    await whenSeen("no slot in use", async () => (await slotsUsed()) === 0 || undefined);
    expect(scene.shaman.processes.worker.output()).not.toContain("run_abandoned");
  });

  test("one that cannot reach the agents tries again, whether the run was on record by then or not", async () => {
    const { internal, worker } = scene.shaman.processes;
    await whenAssigned();
    await internal.kill("SIGKILL");
    const answer = sendSlowly("order-unreachable");
    await whenSeen("a try", async () => worker.output().includes("agent_broken_off") || undefined);
    await internal.start();
    expect((await answer).status.state).toBe("TASK_STATE_COMPLETED");
    expect(worker.output()).not.toContain("run_abandoned");
  });

  test("one without a slot for it passes it on to the queue, and none is lost, doubled or begun beyond the slots", async () => {
    const { database } = scene.shaman;
    const orders = ordersNamed("held", 4 * SLOTS);
    const answers = sendAll(orders);
    const begun = () => orders.filter((order) => scene.modelCalls.has(order));
    await whenSeen("all accepted, and the slots in use", async () => {
      const open = await database.inspect("SELECT lease_until FROM run WHERE finished_at IS NULL");
      const held = open.filter((run) => run.lease_until !== null);
      return open.length === orders.length && held.length === SLOTS && begun().length >= SLOTS ? open : undefined;
    });
    expect(begun()).toHaveLength(SLOTS);
    gate.resolve();
    for (const task of await answers) expect(task.status.state).toBe("TASK_STATE_COMPLETED");
    for (const order of orders) expect(scene.modelCalls.get(order)).toBe(1);
    expect(await countClaimedAnew()).toBeGreaterThan(0);
    expect(await findBrokenPromises(database, scene.org.orgId)).toEqual([]);
  });

  test("one that dies with what was assigned to it loses nothing", async () => {
    const { worker } = scene.shaman.processes;
    await whenAssigned();
    const before = await countClaimedAnew();
    await worker.kill("SIGKILL");
    // Its offer stands for a moment.
    const answers = sendAll(ordersNamed("after", 8));
    await worker.start();
    for (const task of await answers) expect(task.status.state).toBe("TASK_STATE_COMPLETED");
    expect(await countClaimedAnew()).toBeGreaterThan(before);
    expect(await findBrokenPromises(scene.shaman.database, scene.org.orgId)).toEqual([]);
  });

  test("one that was asleep begins nothing of what it hears late: somebody else has done it", async () => {
    const { worker } = scene.shaman.processes;
    await whenAssigned();
    worker.signal("SIGSTOP");
    const orders = ordersNamed("late", SLOTS);
    const answers = sendAll(orders);
    const second = await scene.shaman.addWorker();
    for (const task of await answers) expect(task.status.state).toBe("TASK_STATE_COMPLETED");
    await second.kill("SIGKILL");
    worker.signal("SIGCONT");
    // It hears of this one after the others.
    await scene.send("order-last");
    expect(orders.map((order) => scene.modelCalls.get(order))).toEqual(orders.map(() => 1));
  });
});
