import {
  findBrokenPromises,
  readFinishedSteps,
  startOrderScene,
  startRedis,
  TREE_AGENTS,
  TREE_STEPS,
  TREE_TASKS,
  treeModelSteps,
  treeReply,
  whenRow,
  type HistoryStep,
  type OrderScene,
  type ProcessName,
  type RedisServer,
} from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const RUNS = 20;
const STEPS = RUNS * TREE_STEPS;

const atLeast = (count: number, table: string): string =>
  `SELECT 1 FROM ${table} HAVING count(*) >= ${Math.ceil(count)}`;
const finished = (share: number): string => atLeast(STEPS * share, "step WHERE finished_at IS NOT NULL");

/** Who is killed when: with calls just begun, nested calls under way, and calls whose result is on its way. */
const KILLS: readonly (readonly [ProcessName, string])[] = [
  ["internal", atLeast(3, "step WHERE kind = 'call' AND state = 'started'")],
  ["worker", atLeast(8, "step WHERE kind = 'call'")],
  ["internal", atLeast(3, "task WHERE agent = 'Deep'")],
  ["worker", finished(0.25)],
  ["internal", finished(0.4)],
  ["worker", atLeast(6, "task WHERE agent = 'Helper' AND state = 'completed'")],
  ["internal", finished(0.6)],
  ["worker", finished(0.75)],
];

const key = (step: HistoryStep): string => `${step.taskId} ${step.position}`;

describe.each(["postgres", "redis"])("kill -9 while trees of agents are at work, on %s", (backend) => {
  let scene: OrderScene;
  let redis: RedisServer | undefined;
  beforeAll(async () => {
    redis = backend === "redis" ? await startRedis() : undefined;
    scene = await startOrderScene({
      agents: TREE_AGENTS,
      reply: treeReply,
      ...(redis !== undefined && { redisUrl: redis.url }),
    });
  });
  afterAll(async () => {
    await scene.close();
    await redis?.close();
  });

  test("enters every begun call again by its task, calls nobody twice, and repeats no recorded step", async () => {
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
    expect(await database.inspect("SELECT state, count(*)::integer AS count FROM task GROUP BY state")).toEqual([
      { state: "completed", count: RUNS * TREE_TASKS },
    ]);
    const steps = new Map((await readFinishedSteps(database, org.orgId)).map((step) => [key(step), step]));
    expect(steps.size).toBe(STEPS);
    expect(recorded.size).toBeGreaterThan(RUNS);
    for (const [id, step] of recorded) expect(steps.get(id)).toEqual(step);

    const claims = await database.inspect<{ text: string; claims: number }>(
      `SELECT m.content->'parts'->0->>'text' AS text, r.lease_epoch AS claims
       FROM run r JOIN message m ON m.task_id = r.root_task_id AND m.position = 1`,
    );
    for (const { text, claims: attempts } of claims) {
      for (const part of [text, `${text}-helper`, `${text}-helper-deep`, `${text}-checker`]) {
        expect(scene.modelCalls.get(part), part).toBeLessThanOrEqual(treeModelSteps(part) + attempts - 1);
      }
    }
    expect(await findBrokenPromises(database, org.orgId)).toEqual([]);
  });
});
