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

const RUNS = 8;

describe.each(["postgres", "redis"])("a worker frozen past its leases and woken, on %s", (backend) => {
  let scene: OrderScene;
  let redis: RedisServer | undefined;
  const thawed = Promise.withResolvers<void>();
  beforeAll(async () => {
    redis = backend === "redis" ? await startRedis() : undefined;
    scene = await startOrderScene({
      ...(redis !== undefined && { redisUrl: redis.url }),
      // The second answer of the first attempt ends only when the worker that asked for it is awake again.
      reply: (call) =>
        call.turn === 2 && call.call === 2
          ? { ...orderReply(call), text: ["late ", "words"], between: thawed.promise }
          : orderReply(call),
    });
  });
  afterAll(async () => {
    thawed.resolve();
    await scene.close();
    await redis?.close();
  });

  test("writes nothing any more: the worker that took over has done everything, and the first one serves new runs", async () => {
    const { shaman, org } = scene;
    const { database } = shaman;
    const history = () =>
      Promise.all(
        ["run", "task", "step", "run_event", "artifact", "usage", "message"].map((table) =>
          database.inspect(`SELECT * FROM ${table} WHERE org_id = $1 ORDER BY to_jsonb(${table})::text`, [org.orgId]),
        ),
      );
    const frozen = shaman.processes.worker;
    const answers = Promise.all(Array.from({ length: RUNS }, (_, i) => scene.send(`order-${i}`)));
    await whenRow(database, "SELECT 1 FROM step WHERE finished_at IS NOT NULL HAVING count(*) >= $1", [2 * RUNS]);
    await whenSeen("second calls", () =>
      [...scene.modelCalls.values()].every((calls) => calls >= 2) ? true : undefined,
    );
    frozen.signal("SIGSTOP");
    const second = await shaman.addWorker();
    for (const task of await answers) expect(task.status.state).toBe("TASK_STATE_COMPLETED");
    expect(await findBrokenPromises(database, org.orgId)).toEqual([]);
    const before = await history();

    thawed.resolve();
    frozen.signal("SIGCONT");
    const abandoned = () => frozen.output().split('"event":"run_abandoned"').length - 1;
    await whenSeen("abandoned runs", () => (abandoned() >= RUNS ? true : undefined));
    await second.kill("SIGKILL");
    expect(await history()).toEqual(before);
    expect(await scene.send("order-after")).toMatchObject({ status: { state: "TASK_STATE_COMPLETED" } });
    expect(await findBrokenPromises(database, org.orgId)).toEqual([]);
  });
});
