import {
  findBrokenPromises,
  orderReply,
  startOrderScene,
  startRedis,
  whenRow,
  whenSeen,
  type OrderScene,
  type RedisServer,
} from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

describe.each(["postgres", "redis"])("SIGTERM, on %s", (backend) => {
  let scene: OrderScene;
  let redis: RedisServer | undefined;
  const gate = Promise.withResolvers<void>();
  beforeAll(async () => {
    redis = backend === "redis" ? await startRedis() : undefined;
    scene = await startOrderScene({
      ...(redis !== undefined && { redisUrl: redis.url }),
      env: { SHUTDOWN_GRACE_MS: "1500" },
      reply: (call) =>
        call.order === "order-long" && call.turn === 2
          ? { ...orderReply(call), before: gate.promise }
          : orderReply(call),
    });
  });
  afterAll(async () => {
    gate.resolve();
    await scene.close();
    await redis?.close();
  });

  test("lets a worker finish short runs and hand over a long one, which goes on elsewhere at once and loses nothing", async () => {
    const { shaman, org } = scene;
    const { database, processes } = shaman;
    const long = scene.send("order-long");
    await whenSeen("second turn", () => ((scene.modelCalls.get("order-long") ?? 0) >= 2 ? true : undefined));
    const orders = ["order-1", "order-2", "order-3"];
    const short = Promise.all(orders.map((order) => scene.send(order)));
    await whenSeen("begun", () => orders.every((order) => scene.modelCalls.has(order)) || undefined);
    await processes.worker.kill("SIGTERM");

    expect(processes.worker.exitCode()).toBe(0);
    for (const task of await short) expect(task.status.state).toBe("TASK_STATE_COMPLETED");
    expect(
      await database.inspect(
        "SELECT state, lease_until, worker, barren_claims, lease_epoch FROM run WHERE finished_at IS NULL",
      ),
    ).toEqual([{ state: "submitted", lease_until: null, worker: null, barren_claims: 0, lease_epoch: 1 }]);
    expect(await database.inspect("SELECT DISTINCT lease_epoch FROM run WHERE finished_at IS NOT NULL")).toEqual([
      { lease_epoch: 1 },
    ]);

    gate.resolve();
    await processes.worker.start();
    expect((await long).status.state).toBe("TASK_STATE_COMPLETED");
    expect(scene.modelCalls.get("order-long")).toBeLessThanOrEqual(4);
    expect(await findBrokenPromises(database, org.orgId)).toEqual([]);
  });

  test("stops the internal and the public server cleanly with runs in flight, and none is lost", async () => {
    const { shaman, org } = scene;
    const { database, processes } = shaman;
    for (const name of ["internal", "public"] as const) {
      const answers = Promise.all(Array.from({ length: 10 }, (_, i) => scene.send(`order-${name}-${i}`)));
      await whenRow(database, "SELECT 1 FROM run WHERE finished_at IS NULL AND lease_epoch > 0 HAVING count(*) >= 5");
      await processes[name].kill("SIGTERM");
      expect(processes[name].exitCode(), processes[name].output()).toBe(0);
      await processes[name].start();
      for (const task of await answers) expect(task.status.state).toBe("TASK_STATE_COMPLETED");
    }
    expect(await findBrokenPromises(database, org.orgId)).toEqual([]);
  });
});
