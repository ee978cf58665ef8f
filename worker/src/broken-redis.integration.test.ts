import { Secret } from "@shaman/kernel";
import { openRedis } from "@shaman/queue";
import {
  findBrokenPromises,
  ORDER_STEPS,
  startOrderScene,
  startRedis,
  whenRow,
  type OrderScene,
  type RedisServer,
} from "@shaman/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";

const RUNS = 20;

let redis: RedisServer;
let scene: OrderScene;
beforeAll(async () => {
  redis = await startRedis();
  // Few at once, so that most of the runs wait in the queue when it breaks.
  scene = await startOrderScene({ redisUrl: redis.url, env: { RUNS_IN_FLIGHT_PER_ORGANIZATION: "4" } });
});
afterAll(async () => {
  await scene.close();
  await redis.close();
});

const ordersNamed = (prefix: string): readonly string[] =>
  Array.from({ length: RUNS }, (_, i) => `order-${prefix}-${i}`);

const finishedSteps = async (): Promise<number> => {
  const [row] = await scene.shaman.database.inspect<{ count: number }>(
    "SELECT count(*)::integer AS count FROM step WHERE finished_at IS NOT NULL",
  );
  return row?.count ?? 0;
};

const whenMoreSteps = async (more: number): Promise<void> => {
  const sql = "SELECT 1 FROM step WHERE finished_at IS NOT NULL HAVING count(*) >= $1";
  await whenRow(scene.shaman.database, sql, [(await finishedSteps()) + more]);
};

test("a flushed Redis loses no run, neither of those in flight nor of those queued", async () => {
  const answers = Promise.all(ordersNamed("flush").map((order) => scene.send(order)));
  await whenMoreSteps(ORDER_STEPS);
  const [queued] = await scene.shaman.database.inspect(
    "SELECT 1 FROM run WHERE lease_until IS NULL AND finished_at IS NULL",
  );
  expect(queued).toBeDefined();
  const client = openRedis({ url: new Secret(redis.url), name: "test", patient: true, onError: () => undefined });
  await client.flushall();
  client.disconnect();
  for (const task of await answers) expect(task.status.state).toBe("TASK_STATE_COMPLETED");
  expect(await findBrokenPromises(scene.shaman.database, scene.org.orgId)).toEqual([]);
});

test("while Redis is away intake accepts or says 503 with Retry-After within 2 s, and what it accepted is done later", async () => {
  const before = Promise.all(ordersNamed("before").map((order) => scene.send(order)));
  await whenMoreSteps(ORDER_STEPS);
  await redis.kill();

  // The promise itself is a time here: whoever gets no answer within 2 s has been left hanging.
  const hung = (): Promise<undefined> =>
    new Promise((resolve) => {
      setTimeout(() => resolve(undefined), 2_000);
    });
  const answers = await Promise.all(ordersNamed("away").map((order) => Promise.race([scene.submit(order), hung()])));
  for (const answer of answers) {
    expect(answer?.status).toBeOneOf([200, 503]);
    if (answer?.status === 503) expect(Number(answer.headers["retry-after"])).toBeGreaterThan(0);
  }

  await redis.restart();
  const accepted = answers.filter((answer) => answer?.status === 200).map((answer) => answer?.json.result.task.id);
  const { database } = scene.shaman;
  const unfinished = "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM task WHERE id = ANY($1) AND state <> 'completed')";
  await whenRow(database, unfinished, [accepted]);
  for (const task of await before) expect(task.status.state).toBe("TASK_STATE_COMPLETED");
  expect(await scene.send("order-after")).toMatchObject({ status: { state: "TASK_STATE_COMPLETED" } });
  expect(await findBrokenPromises(database, scene.org.orgId)).toEqual([]);
});
