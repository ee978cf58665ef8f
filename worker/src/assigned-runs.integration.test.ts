import {
  BACKENDS,
  findBrokenPromises,
  startOrderScene,
  startRedis,
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
  beforeAll(async () => {
    redis = backend === "redis" ? await startRedis() : undefined;
    scene = await startOrderScene({
      ...(redis !== undefined && { redisUrl: redis.url }),
      env: { WORKER_CONCURRENCY: String(SLOTS) },
      reply: ({ order }) => ({ text: ["done"], ...(order.startsWith("order-held") && { before: gate.promise }) }),
    });
  });
  afterAll(async () => {
    gate.resolve();
    await scene.close();
    await redis?.close();
  });

  /** Of all runs, those that were claimed by the very transaction that accepted them. */
  const listAssigned = () =>
    scene.shaman.database.inspect("SELECT id FROM run WHERE org_id = $1 AND started_at = created_at", [
      scene.org.orgId,
    ]);

  test("an idle worker gets a run as it is accepted", async () => {
    // Its first offer may be on its way yet.
    const assigned = await whenSeen("an assigned run", async () => {
      expect(await scene.send(`order-${Math.random()}`)).toMatchObject({ status: { state: "TASK_STATE_COMPLETED" } });
      const [run] = await listAssigned();
      return run;
    });
    expect(assigned).toBeDefined();
  });

  test("one without a slot for it passes it on to the queue, and none is lost, doubled or begun beyond the slots", async () => {
    const { database } = scene.shaman;
    const orders = Array.from({ length: 4 * SLOTS }, (_, i) => `order-held-${i}`);
    const answers = Promise.all(orders.map((order) => scene.send(order)));
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
    expect(await findBrokenPromises(database, scene.org.orgId)).toEqual([]);
  });

  test("one that dies with what was assigned to it loses nothing", async () => {
    const { worker } = scene.shaman.processes;
    const answers = Promise.all(Array.from({ length: 8 }, (_, i) => scene.send(`order-before-${i}`)));
    await worker.kill("SIGKILL");
    // Its offer stands for a moment.
    const after = Promise.all(Array.from({ length: 8 }, (_, i) => scene.send(`order-after-${i}`)));
    await worker.start();
    for (const task of [...(await answers), ...(await after)]) expect(task.status.state).toBe("TASK_STATE_COMPLETED");
    expect(await findBrokenPromises(scene.shaman.database, scene.org.orgId)).toEqual([]);
  });
});
