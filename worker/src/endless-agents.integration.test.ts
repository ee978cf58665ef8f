import {
  findBrokenPromises,
  givenSettings,
  startOrderScene,
  type ModelReply,
  type OrderCall,
  type OrderScene,
} from "@shaman/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";

/** Every call of the model costs a cent. */
const PRICES = { "shop/test-model": { input: 10, cached: 10, output: 10 } };

/** Who works on an order calls the next one with every answer. */
const reply = ({ order, call }: OrderCall): ModelReply => {
  const [agent, message] =
    order === "order-self"
      ? ["Narcissus", order]
      : order.endsWith("-pong")
        ? ["Ping", "order-ping"]
        : ["Pong", "order-pong"];
  return {
    usage: { inputTokens: 1_000, outputTokens: 0 },
    toolCalls: [{ id: `c-${call}`, name: "call_agent", input: { agent, message } }],
  };
};

let scene: OrderScene;
beforeAll(async () => {
  const agents = { Narcissus: "limits: {maxCostUsd: 0.045}", Ping: "limits: {maxCostUsd: 0.085}", Pong: "" };
  scene = await startOrderScene({ agents, reply });
  await givenSettings(scene.shaman, scene.org, { prices: PRICES });
});
afterAll(() => scene.close());

test.each([
  ["itself", "Narcissus", "order-self", 1, 0.05],
  ["each other", "Ping", "order-pair", 2, 0.1],
])(
  "agents that call %s for ever end at the run's money, which is named, and leave nothing at work",
  async (_, agent, order, depth, mostUsd) => {
    const { database } = scene.shaman;
    const task = await scene.send(order, agent);
    expect(task.status).toMatchObject({
      state: "TASK_STATE_FAILED",
      message: { parts: [{ text: expect.stringContaining("its limit maxCostUsd") }] },
    });
    const [run] = await database.inspect(
      `SELECT state, error->>'code' AS code, lease_until AS lease, worker, cost_usd::float AS cost,
         (SELECT count(DISTINCT parent_task_id)::integer FROM task t WHERE t.run_id = r.id) + 1 AS depth,
         (SELECT count(*)::integer FROM step s WHERE s.run_id = r.id AND s.finished_at IS NULL) AS open
       FROM run r WHERE root_task_id = $1`,
      [task.id],
    );
    expect(run).toMatchObject({ state: "failed", code: "limit_reached", lease: null, worker: null, depth, open: 0 });
    expect(run?.cost).toBeGreaterThan(0);
    expect(run?.cost).toBeLessThanOrEqual(mostUsd);
    expect(await findBrokenPromises(database, scene.org.orgId)).toEqual([]);
  },
);
