import {
  findBrokenPromises,
  orderReply,
  startOrderScene,
  whenRow,
  whenSeen,
  type ModelReply,
  type OrderCall,
  type OrderScene,
} from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

/** What the model does for an order, by what the order's name begins with. */
const REPLIES: Readonly<Record<string, (call: OrderCall) => ModelReply>> = {
  "order-poison": () => ({ hold: "headers" }),
  "order-parked": (call) => (call.call === 2 ? { status: 429, headers: { "retry-after": "1" } } : orderReply(call)),
  "order-broken": (call) => (call.call >= 2 ? { status: 500, message: "the provider is on fire" } : orderReply(call)),
  "order-shaky": (call) => (call.call === 2 || call.call === 4 ? { status: 503 } : orderReply(call)),
  "order-endless": (call) => ({ ...orderReply({ ...call, turn: 1 }), usage: { inputTokens: 1_000, outputTokens: 0 } }),
  "order-cut": (call) =>
    call.call % 2 === 0 ? { ...orderReply(call), ending: "cut", counted: true } : orderReply(call),
  "order-slow": (call) => (call.turn === 2 ? { hold: "first-token" } : orderReply(call)),
};

const replyTo = (call: OrderCall): ModelReply => {
  const [, reply] = Object.entries(REPLIES).find(([prefix]) => call.order.startsWith(prefix)) ?? [];
  return (reply ?? orderReply)(call);
};

const AGENTS = {
  OneAttempt: "retry: {maxAttempts: 1}",
  TwoAttempts: "retry: {maxAttempts: 2, backoffSeconds: 1}",
  ThreeAttempts: "retry: {maxAttempts: 3, backoffSeconds: 1}",
  FewSteps: "limits: {maxSteps: 2}",
  FewTools: "limits: {maxToolCalls: 2}",
  FewTokens: "limits: {maxTokens: 1500}",
  LittleTime: "limits: {timeoutSeconds: 1}",
  LittleMoney: "limits: {maxCostUsd: 0.015}",
};

let scene: OrderScene;
beforeAll(async () => {
  // One slot, so that a run that waits and keeps it would hold up all others.
  scene = await startOrderScene({ agents: AGENTS, reply: replyTo, env: { WORKER_CONCURRENCY: "1" } });
  const prices = { "shop/test-model": { input: 10, cached: 10, output: 10 } };
  await scene.shaman.database.inspect("UPDATE organization SET settings = $2 WHERE id = $1", [
    scene.org.orgId,
    { prices },
  ]);
});
afterAll(() => scene.close());

const runOf = async (taskId: string): Promise<Record<string, unknown>> =>
  whenRow(scene.shaman.database, "SELECT * FROM run WHERE root_task_id = $1", [taskId]);

const whole = async (): Promise<void> => {
  expect(await findBrokenPromises(scene.shaman.database, scene.org.orgId)).toEqual([]);
};

test("a run whose internal server dies each time is given up after five attempts, visibly, and holds up nobody", async () => {
  const { internal } = scene.shaman.processes;
  const poisoned = scene.send("order-poison");
  for (let attempt = 1; attempt <= 5; attempt += 1) {
    await whenSeen(`attempt ${attempt}`, () => (scene.modelCalls.get("order-poison") === attempt ? true : undefined));
    await internal.kill("SIGKILL");
    await internal.start();
  }
  // The first time it waits half a second.
  await whenRow(scene.shaman.database, "SELECT 1 FROM run WHERE wake_at > now() + interval '2 seconds'");
  const task = await poisoned;
  expect(task.status).toMatchObject({
    state: "TASK_STATE_FAILED",
    message: { parts: [{ text: expect.stringContaining("given up") }] },
  });
  expect(scene.modelCalls.get("order-poison")).toBe(5);
  expect(await runOf(task.id)).toMatchObject({ state: "failed", error: { code: "run_poisoned" } });
  expect((await scene.send("order-after-poison")).status.state).toBe("TASK_STATE_COMPLETED");
  await whole();
});

test("429 with Retry-After parks the run without lease or slot, and it goes on by itself where it was", async () => {
  const parked = scene.send("order-parked");
  await whenRow(
    scene.shaman.database,
    `SELECT 1 FROM run r JOIN message m ON m.task_id = r.root_task_id WHERE m.content->'parts'->0->>'text' = 'order-parked'
     AND state = 'submitted' AND wake_at > now() AND lease_until IS NULL AND worker IS NULL`,
  );
  expect((await scene.send("order-meanwhile")).status.state).toBe("TASK_STATE_COMPLETED");
  const task = await parked;
  expect(task.status.state).toBe("TASK_STATE_COMPLETED");
  expect(scene.modelCalls.get("order-parked")).toBe(4);
  const retries = "SELECT payload->>'code' AS code FROM run_event WHERE task_id = $1 AND type = 'run.retry'";
  expect(await scene.shaman.database.inspect(retries, [task.id])).toEqual([{ code: "model_rate_limited" }]);
  expect(await runOf(task.id)).toMatchObject({ attempts: 0 });
  await whole();
});

test("an error that may pass is tried again as often as the agent's file says, then fails with what was so far", async () => {
  const task = await scene.send("order-broken", "TwoAttempts");
  expect(task.status.state).toBe("TASK_STATE_FAILED");
  expect(task.artifacts.map(({ artifactId }) => artifactId).toSorted()).toEqual(["artifact-2", "response-1"]);
  expect(scene.modelCalls.get("order-broken")).toBe(3);
  expect(await runOf(task.id)).toMatchObject({ attempts: 1, error: { code: "model_unavailable" } });
  const shaky = await scene.send("order-shaky", "ThreeAttempts");
  expect(shaky.status.state).toBe("TASK_STATE_COMPLETED");
  expect(scene.modelCalls.get("order-shaky")).toBe(5);
  await whole();
});

test("what a provider counted for answers that broke off is paid for by the run, and not by its steps", async () => {
  const usageOf = (taskId: string) =>
    scene.shaman.database.inspect(
      `SELECT failed_position AS failed, input_tokens AS tokens, cost_usd::float8 AS cost FROM usage
       WHERE task_id = $1 AND failed_position IS NOT NULL ORDER BY at`,
      [taskId],
    );
  const task = await scene.send("order-cut-1", "ThreeAttempts");
  expect(task.status.state).toBe("TASK_STATE_COMPLETED");
  // Calls 2 and 4 broke off, in the places of the second and the third answer.
  expect(scene.modelCalls.get("order-cut-1")).toBe(5);
  expect(await usageOf(task.id)).toEqual([3, 6].map((failed) => ({ failed, tokens: 100, cost: 0.0011 })));
  expect(await runOf(task.id)).toMatchObject({ steps: 6, input_tokens: "500", output_tokens: "50" });
  const failed = await scene.send("order-cut-2", "OneAttempt");
  expect(failed.status.state).toBe("TASK_STATE_FAILED");
  expect(await usageOf(failed.id)).toEqual([{ failed: 3, tokens: 100, cost: 0.0011 }]);
  expect(await runOf(failed.id)).toMatchObject({ input_tokens: "200", output_tokens: "20" });
  await whole();
});

describe("a run that reaches its limit", () => {
  test.each([
    ["maxSteps", "FewSteps", "order-endless-1", 2, 2],
    ["maxToolCalls", "FewTools", "order-endless-2", 3, 2],
    ["maxTokens", "FewTokens", "order-endless-3", 2, 2],
    ["maxCostUsd", "LittleMoney", "order-endless-4", 2, 2],
    ["timeoutSeconds", "LittleTime", "order-slow-1", 2, 1],
  ])("%s fails with its name, and keeps what it had", async (limit, agent, order, calls, artifacts) => {
    const task = await scene.send(order, agent);
    expect(task.status).toMatchObject({
      state: "TASK_STATE_FAILED",
      message: { parts: [{ text: expect.stringContaining(limit) }] },
    });
    expect(scene.modelCalls.get(order)).toBe(calls);
    expect(task.artifacts.filter(({ artifactId }) => artifactId.startsWith("artifact-"))).toHaveLength(artifacts);
    expect(await runOf(task.id)).toMatchObject({ error: { code: "limit_reached" } });
    await whole();
  });

  test("timeoutSeconds counts also while the agents cannot be reached", async () => {
    const { internal } = scene.shaman.processes;
    await internal.kill("SIGKILL");
    const task = await scene.send("order-away", "LittleTime");
    await internal.start();
    expect(task.status.state).toBe("TASK_STATE_FAILED");
    expect(await runOf(task.id)).toMatchObject({ error: { code: "limit_reached" } });
    await whole();
  });
});
