import {
  findBrokenPromises,
  ORDER_MODEL_STEPS,
  ORDER_STEPS,
  startOrderScene,
  startPostgresServer,
  startRedis,
  testDatabase,
  whenRow,
  type OrderScene,
  type PostgresServer,
  type RedisServer,
} from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const RUNS = 20;
const STEPS = RUNS * ORDER_STEPS;
const CRASHES = 2;

describe.each(["postgres", "redis"])("PostgreSQL stopped hard, with the queue on %s", (backend) => {
  let postgres: PostgresServer;
  let redis: RedisServer | undefined;
  let scene: OrderScene;
  beforeAll(async () => {
    postgres = await startPostgresServer();
    redis = backend === "redis" ? await startRedis() : undefined;
    const database = await testDatabase(postgres.templateUrl);
    scene = await startOrderScene({ database, ...(redis !== undefined && { redisUrl: redis.url }) });
  });
  afterAll(async () => {
    await scene.close();
    await redis?.close();
    await postgres.close();
  });

  test("once by the crash of one of its processes, once as a whole: every run goes on from what was committed", async () => {
    const { database } = scene.shaman;
    const whenSteps = (count: number) =>
      whenRow(database, "SELECT 1 FROM step WHERE finished_at IS NOT NULL HAVING count(*) >= $1", [count]);
    const answers = Promise.all(Array.from({ length: RUNS }, (_, i) => scene.send(`order-${i}`)));

    await whenSteps(STEPS / 6);
    // The server ends all its processes when one of them dies like this, and recovers.
    const serving = "SELECT pid FROM pg_stat_activity WHERE usename = 'shaman_worker' AND datname = current_database()";
    process.kill(Number((await whenRow(database, serving)).pid), "SIGKILL");

    await whenSteps(STEPS / 2);
    await postgres.crash();
    await postgres.restart();

    for (const task of await answers) expect(task.status.state).toBe("TASK_STATE_COMPLETED");
    expect(await findBrokenPromises(database, scene.org.orgId)).toEqual([]);
    expect(Math.max(...scene.modelCalls.values())).toBeLessThanOrEqual(ORDER_MODEL_STEPS + CRASHES);
    // All came back by themselves: nobody restarted them.
    for (const one of Object.values(scene.shaman.processes)) expect(one.exitCode()).toBeNull();
  });
});
