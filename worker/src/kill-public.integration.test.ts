import {
  BACKENDS,
  findBrokenPromises,
  startMcpServer,
  startOrderScene,
  TREE_AGENTS,
  treeParts,
  treeReply,
  whenRow,
  whenSeen,
  type McpTestServer,
  type ModelReply,
  type OrderCall,
  type OrderScene,
} from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

/** Every order is worked on by four agents; what is under way when the server dies is in its name. */
const ORDERS = ["order-model", "order-look", "order-charge", "order-asking", "order-strict"] as const;

describe.each(BACKENDS)("kill -9 of the public server, on %s", (backend) => {
  let scene: OrderScene;
  let shop: McpTestServer;
  const toolCalls = new Map<string, number>();
  /** What holds up models and tools from the moment on at which the server is to die. */
  const gate = Promise.withResolvers<void>();

  const reply = (call: OrderCall): ModelReply => {
    const { order, turn } = call;
    if (order === "order-model" && turn === 1) return { ...treeReply(call), before: gate.promise };
    if (order === "order-strict" && turn === 2) return { ...treeReply(call), before: gate.promise };
    if (!order.endsWith("-deep")) return treeReply(call);
    if (order.includes("asking")) {
      if (turn === 1) return { toolCalls: [{ id: "q", name: "request_input", input: { question: "Which size?" } }] };
      return { ...treeReply(call), before: gate.promise };
    }
    const tool = ["look", "charge"].find((name) => order.includes(name));
    if (tool === undefined || turn > 1) return treeReply(call);
    return { toolCalls: [{ id: "t", name: `shop__${tool}`, input: { order } }] };
  };

  beforeAll(async () => {
    const run = async (input: Readonly<Record<string, unknown>>) => {
      const order = String(input.order);
      toolCalls.set(order, (toolCalls.get(order) ?? 0) + 1);
      await gate.promise;
      return { content: [{ type: "text" as const, text: `done: ${order}` }] };
    };
    shop = await startMcpServer({
      tools: [
        { name: "charge", annotations: { readOnlyHint: false, idempotentHint: false }, run },
        { name: "look", annotations: { readOnlyHint: true }, run },
      ],
    });
    const deep = `mcpServers: {shop: {url: "${shop.url}", tools: [charge, look]}}`;
    const agents = { ...TREE_AGENTS, Deep: deep, Strict: "approval: [write_artifact]" };
    // Nobody holds a lease here who dies, and a slow machine should not look like it.
    scene = await startOrderScene({ backend, agents, reply, env: { LEASE_MS: "30000", LEASE_RENEW_MS: "1000" } });
  });
  afterAll(async () => {
    gate.resolve();
    await scene.close();
    await shop.close();
  });

  const modelCalled = (part: string, times: number) =>
    whenSeen(`${times} model calls for ${part}`, () => (scene.modelCalls.get(part) === times ? true : undefined));

  test("disturbs nothing that is under way or waits for a person, and every caller gets the answer by asking again", async () => {
    const { database, processes } = scene.shaman;
    const [asked, strict] = await Promise.all([scene.send("order-asking"), scene.send("order-strict", "Strict")]);
    expect([asked.status.state, strict.status.state]).toEqual([
      "TASK_STATE_INPUT_REQUIRED",
      "TASK_STATE_INPUT_REQUIRED",
    ]);
    await processes.public.kill("SIGKILL");
    await processes.public.start();

    const approval = strict.status.message?.parts[1]?.data?.approval;
    const decision = { approval: { id: Object(approval).id, decision: "approve" } };
    const answers = Promise.all([
      scene.send("order-model"),
      scene.send("order-look"),
      scene.send("order-charge"),
      scene.answer(asked, "XL"),
      scene.answer(strict, [{ data: decision }], "Strict"),
    ]);
    await modelCalled("order-model", 1);
    await whenSeen("tools at work", () => (toolCalls.size === 2 ? true : undefined));
    await modelCalled("order-asking-helper-deep", 2);
    await modelCalled("order-strict", 2);
    await processes.public.kill("SIGKILL");
    gate.resolve();
    await whenRow(database, "SELECT 1 FROM run HAVING count(*) = $1 AND bool_and(finished_at IS NOT NULL)", [
      ORDERS.length,
    ]);
    await processes.public.start();

    const tasks = await answers;
    expect(tasks.map((task) => task.status.state)).toEqual(ORDERS.map(() => "TASK_STATE_COMPLETED"));
    expect(new Set(tasks.map(({ id }) => id)).size).toBe(ORDERS.length);
    expect(tasks.slice(3).map(({ id }) => id)).toEqual([asked.id, strict.id]);
    for (const { part, modelSteps } of ORDERS.flatMap(treeParts)) {
      expect(scene.modelCalls.get(part), part).toBe(modelSteps);
    }
    expect([...toolCalls.values()]).toEqual([1, 1]);
    const tools = await database.inspect("SELECT DISTINCT state FROM step WHERE kind = 'tool'");
    expect(tools).toEqual([{ state: "done" }]);
    const claims = await database.inspect("SELECT DISTINCT state, lease_epoch FROM run ORDER BY lease_epoch");
    expect(claims).toEqual([
      { state: "completed", lease_epoch: 1 },
      { state: "completed", lease_epoch: 2 },
    ]);
    expect(await findBrokenPromises(database, scene.org.orgId)).toEqual([]);
  });
});
