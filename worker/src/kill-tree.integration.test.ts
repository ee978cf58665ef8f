import {
  BACKENDS,
  findBrokenPromises,
  findWastedModelCalls,
  killWhileOrdersRun,
  readFinishedSteps,
  startOrderScene,
  TREE_AGENTS,
  TREE_STEPS,
  TREE_TASKS,
  treeParts,
  treeReply,
  type Kill,
  type OrderScene,
} from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const RUNS = 20;
const STEPS = RUNS * TREE_STEPS;

const atLeast = (count: number, table: string): string =>
  `SELECT 1 FROM ${table} HAVING count(*) >= ${Math.ceil(count)}`;
const finished = (share: number): string => atLeast(STEPS * share, "step WHERE finished_at IS NOT NULL");

/** Who is killed when: with calls just begun, nested calls under way, and calls whose result is on its way. */
const KILLS: readonly Kill[] = [
  ["internal", atLeast(3, "step WHERE kind = 'call' AND state = 'started'")],
  ["worker", atLeast(8, "step WHERE kind = 'call'")],
  ["internal", atLeast(3, "task WHERE agent = 'Deep'")],
  ["worker", finished(0.25)],
  ["public", finished(0.3)],
  ["internal", finished(0.4)],
  ["worker", atLeast(6, "task WHERE agent = 'Helper' AND state = 'completed'")],
  ["internal", finished(0.6)],
  ["worker", finished(0.75)],
];

describe.each(BACKENDS)("kill -9 while trees of agents are at work, on %s", (backend) => {
  let scene: OrderScene;
  beforeAll(async () => {
    scene = await startOrderScene({ backend, agents: TREE_AGENTS, reply: treeReply });
  });
  afterAll(() => scene.close());

  test("enters every begun call again by its task, calls nobody twice, and repeats no recorded step", async () => {
    const { shaman, org } = scene;
    const { database } = shaman;
    const orders = Array.from({ length: RUNS }, (_, i) => `order-${i}`);
    const { tasks, seen, changed } = await killWhileOrdersRun(scene, { orders, kills: KILLS });

    expect(new Set(tasks.map((task) => task.status.state))).toEqual(new Set(["TASK_STATE_COMPLETED"]));
    expect(await database.inspect("SELECT state, count(*)::integer AS count FROM task GROUP BY state")).toEqual([
      { state: "completed", count: RUNS * TREE_TASKS },
    ]);
    expect(await readFinishedSteps(database, org.orgId)).toHaveLength(STEPS);
    expect(seen).toBeGreaterThan(RUNS);
    expect(changed).toEqual([]);
    expect(await findWastedModelCalls(scene, treeParts)).toEqual([]);
    expect(await findBrokenPromises(database, org.orgId)).toEqual([]);
  });
});
