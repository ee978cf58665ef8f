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
const LATE = 10;

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
    // The last of these is acknowledged right before the server dies.
    const late = await Promise.all(Array.from({ length: LATE }, (_, i) => scene.submit(`order-late-${i}`)));
    await postgres.crash();
    await postgres.restart();

    const acknowledged = late.filter(({ status }) => status === 200).map(({ json }) => String(json.result.task.id));
    expect(acknowledged).toHaveLength(LATE);
    const finished = (await answers).map((task) => {
      expect(task.status.state).toBe("TASK_STATE_COMPLETED");
      return task.id;
    });
    // What a caller was told is there: neither a task nor its end was lost with the server's memory.
    const missing = `SELECT id FROM unnest($1::text[]) AS told (id)
      WHERE NOT EXISTS (SELECT 1 FROM task t WHERE t.id = told.id AND t.state = 'completed')`;
    expect(await database.inspect(missing, [finished])).toEqual([]);
    await whenRow(database, `SELECT 1 WHERE NOT EXISTS (${missing})`, [acknowledged]);
    expect(await findBrokenPromises(database, scene.org.orgId)).toEqual([]);
    expect(Math.max(...scene.modelCalls.values())).toBeLessThanOrEqual(ORDER_MODEL_STEPS + CRASHES);
    // All came back by themselves: nobody restarted them.
    for (const one of Object.values(scene.shaman.processes)) expect(one.exitCode()).toBeNull();
  });
});
