import {
  BACKENDS,
  findBrokenPromises,
  findWastedModelCalls,
  killWhileOrdersRun,
  ORDER_MODEL_STEPS,
  ORDER_STEPS,
  readFinishedSteps,
  startOrderScene,
  type Kill,
  type OrderScene,
} from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const RUNS = 50;
const STEPS = RUNS * ORDER_STEPS;

const atLeast = (count: number, table: string): string => `SELECT 1 FROM ${table} HAVING count(*) >= ${count}`;

/** Who is killed when: all points between intake and end, with other runs before and behind each of them. */
const KILLS: readonly Kill[] = [
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

describe.each(BACKENDS)("kill -9 of each process while 50 runs are in flight, on %s", (backend) => {
  let scene: OrderScene;
  beforeAll(async () => {
    scene = await startOrderScene({ backend });
  });
  afterAll(() => scene.close());

  test("loses no run, repeats no recorded step, and keeps every promise about its history", async () => {
    const { shaman, org } = scene;
    const { database } = shaman;
    const orders = Array.from({ length: RUNS }, (_, i) => `order-${i}`);
    const { tasks, seen, changed } = await killWhileOrdersRun(scene, { orders, kills: KILLS });

    expect(tasks.filter((task) => task.status.state !== "TASK_STATE_COMPLETED")).toEqual([]);
    expect(new Set(tasks.map((task) => task.id)).size).toBe(RUNS);
    expect(
      await database.inspect("SELECT count(*)::integer AS runs, count(DISTINCT state)::integer AS states FROM run"),
    ).toEqual([{ runs: RUNS, states: 1 }]);
    expect(await readFinishedSteps(database, org.orgId)).toHaveLength(STEPS);
    expect(seen).toBeGreaterThan(RUNS);
    expect(changed).toEqual([]);

    const wasted = await findWastedModelCalls(scene, (part) => [{ part, modelSteps: ORDER_MODEL_STEPS }]);
    expect(wasted, "model calls ≤ steps + interrupted attempts").toEqual([]);
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
