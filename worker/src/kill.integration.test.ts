import {
  findBrokenPromises,
  ORDER_MODEL_STEPS,
  ORDER_STEPS,
  readFinishedSteps,
  startOrderScene,
  startRedis,
  whenRow,
  type HistoryStep,
  type OrderScene,
  type ProcessName,
  type RedisServer,
} from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const RUNS = 50;
const STEPS = RUNS * ORDER_STEPS;

const atLeast = (count: number, table: string): string => `SELECT 1 FROM ${table} HAVING count(*) >= ${count}`;

/** Who is killed when: all points between intake and end, with other runs before and behind each of them. */
const KILLS: readonly (readonly [ProcessName, string])[] = [
  ["public", atLeast(15, "run")],
  ["worker", atLeast(20, "run WHERE lease_epoch > 0")],
  ["internal", atLeast(10, "run_event WHERE type = 'task.artifact'")],
  ["worker", atLeast(STEPS / 10, "step WHERE finished_at IS NOT NULL")],
  ["internal", atLeast(STEPS / 4, "step WHERE finished_at IS NOT NULL")],
  ["public", atLeast(STEPS / 3, "step WHERE finished_at IS NOT NULL")],
  ["worker", atLeast(STEPS / 2, "step WHERE finished_at IS NOT NULL")],
  ["internal", atLeast(5, "run WHERE finished_at IS NOT NULL")],
  ["worker", atLeast(15, "run WHERE finished_at IS NOT NULL")],
  ["public", atLeast(25, "run WHERE finished_at IS NOT NULL")],
];

const key = (step: HistoryStep): string => `${step.taskId} ${step.position}`;

describe.each(["postgres", "redis"])("kill -9 of each process while 50 runs are in flight, on %s", (backend) => {
  let scene: OrderScene;
  let redis: RedisServer | undefined;
  beforeAll(async () => {
    redis = backend === "redis" ? await startRedis() : undefined;
    scene = await startOrderScene(redis === undefined ? {} : { redisUrl: redis.url });
  });
  afterAll(async () => {
    await scene.close();
    await redis?.close();
  });

  test("loses no run, repeats no recorded step, and keeps every promise about its history", async () => {
    const { shaman, org } = scene;
    const { database } = shaman;
    const orders = Array.from({ length: RUNS }, (_, i) => `order-${i}`);
    const answers = Promise.all(orders.map((order) => scene.send(order)));

    const recorded = new Map<string, HistoryStep>();
    for (const [name, moment] of KILLS) {
      await whenRow(database, moment);
      for (const step of await readFinishedSteps(database, org.orgId)) {
        recorded.set(key(step), recorded.get(key(step)) ?? step);
      }
      await shaman.processes[name].kill("SIGKILL");
      await shaman.processes[name].start();
    }
    const tasks = await answers;

    expect(new Set(tasks.map((task) => task.status.state))).toEqual(new Set(["TASK_STATE_COMPLETED"]));
    expect(new Set(tasks.map((task) => task.id)).size).toBe(RUNS);
    expect(
      await database.inspect("SELECT count(*)::integer AS runs, count(DISTINCT state)::integer AS states FROM run"),
    ).toEqual([{ runs: RUNS, states: 1 }]);
    const steps = new Map((await readFinishedSteps(database, org.orgId)).map((step) => [key(step), step]));
    expect(steps.size).toBe(STEPS);
    expect(recorded.size).toBeGreaterThan(RUNS);
    for (const [id, step] of recorded) expect(steps.get(id)).toEqual(step);

    const runs = await database.inspect<{ text: string; claims: number }>(
      `SELECT m.content->'parts'->0->>'text' AS text, r.lease_epoch AS claims
       FROM run r JOIN message m ON m.task_id = r.root_task_id AND m.position = 1`,
    );
    const wasteful = runs.filter(
      ({ text, claims }) => (scene.modelCalls.get(text) ?? 0) > ORDER_MODEL_STEPS + claims - 1,
    );
    expect(wasteful, "model calls ≤ steps + interrupted attempts").toEqual([]);
    expect(Math.max(...scene.modelCalls.values())).toBeLessThanOrEqual(ORDER_MODEL_STEPS + KILLS.length);
    for (const { artifacts } of tasks) {
      expect(artifacts.map(({ artifactId }) => artifactId).toSorted()).toEqual([
        "artifact-2",
        "artifact-4",
        "artifact-5",
        "response-1",
        "response-6",
      ]);
    }
    expect(await findBrokenPromises(database, org.orgId)).toEqual([]);
  });
});
