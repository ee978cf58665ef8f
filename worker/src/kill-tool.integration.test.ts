import {
  BACKENDS,
  findBrokenPromises,
  findWastedModelCalls,
  startMcpServer,
  startOrderScene,
  TREE_AGENTS,
  treeModelSteps,
  treeParts,
  treeReply,
  whenSeen,
  type McpTestServer,
  type ModelReply,
  type OrderCall,
  type OrderScene,
  type OrderPart,
  type ProcessName,
} from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

type ToolName = "charge" | "look";

/** How often a tool was called for an order, how it was recorded when the first call came, and what lets that call answer. */
type Called = { times: number; readonly foundStates: string[]; readonly release: () => void };

/** The last of the chain, or the only one: the agent `Deep`, whose orders end so, calls the tool that the order names. */
const reply = (call: OrderCall): ModelReply => {
  const { order, turn } = call;
  if (!order.endsWith("-deep") || turn > 1) return treeReply(call);
  const tool: ToolName = order.includes("-charge-") ? "charge" : "look";
  return { toolCalls: [{ id: `t-${call.call}`, name: `shop__${tool}`, input: { order } }] };
};

/** Two trees of four agents, and two runs of the one agent alone, half with each tool. */
const ordersOf = (moment: string) =>
  (["charge", "look"] as const).flatMap((tool) => [
    { tool, agent: "Clerk", sent: `order-${tool}-${moment}`, part: `order-${tool}-${moment}-helper-deep` },
    { tool, agent: "Deep", sent: `order-${tool}-${moment}-deep`, part: `order-${tool}-${moment}-deep` },
  ]);

const partsOf = (sent: string): readonly OrderPart[] =>
  sent.endsWith("-deep") ? [{ part: sent, modelSteps: treeModelSteps(sent) }] : treeParts(sent);

describe.each(BACKENDS)("kill -9 while MCP tools are at work, on %s", (backend) => {
  let scene: OrderScene;
  let shop: McpTestServer;
  const called = new Map<string, Called>();
  /** Requests that the tools' server has not answered to the end; what it sends by itself is none. */
  const unanswered = new Set<unknown>();

  /** The first call for an order answers when the test lets it, each later one at once. */
  const run = async (input: Readonly<Record<string, unknown>>) => {
    const order = String(input.order);
    const before = called.get(order);
    if (before !== undefined) {
      before.times += 1;
      return { content: [{ type: "text" as const, text: `again: ${order}` }] };
    }
    const steps = await scene.shaman.database.inspect<{ state: string }>(
      "SELECT state FROM step WHERE kind = 'tool' AND input->>'order' = $1",
      [order],
    );
    const held = Promise.withResolvers<void>();
    called.set(order, { times: 1, foundStates: steps.map(({ state }) => state), release: held.resolve });
    await held.promise;
    return { content: [{ type: "text" as const, text: `first: ${order}` }] };
  };

  beforeAll(async () => {
    shop = await startMcpServer({
      intercept: ({ method }, response) => {
        if (method === "POST") unanswered.add(response);
        response.once("close", () => unanswered.delete(response));
        return false;
      },
      tools: [
        { name: "charge", annotations: { readOnlyHint: false, idempotentHint: false }, run },
        { name: "look", annotations: { readOnlyHint: true }, run },
      ],
    });
    scene = await startOrderScene({
      backend,
      agents: { ...TREE_AGENTS, Deep: `mcpServers: {shop: {url: "${shop.url}", tools: [charge, look]}}` },
      reply,
    });
  });
  afterAll(async () => {
    for (const { release } of called.values()) release();
    await scene.close();
    await shop.close();
  });

  /** Sends the orders of a moment; resolves when the tool is at work for each of them. */
  const whileToolsWork = async (moment: string) => {
    const orders = ordersOf(moment);
    const answers = Promise.all(orders.map(({ sent, agent }) => scene.send(sent, agent)));
    await whenSeen(`tools at work for ${moment}`, () =>
      orders.every(({ part }) => called.has(part)) ? true : undefined,
    );
    return { orders, answers };
  };

  const expectKept = async ({ orders, answers }: Awaited<ReturnType<typeof whileToolsWork>>): Promise<void> => {
    const { database } = scene.shaman;
    const tasks = await answers;
    for (const [i, { tool, sent, part }] of orders.entries()) {
      expect(tasks[i]?.status.state, sent).toBe("TASK_STATE_COMPLETED");
      const steps = await database.inspect<{ state: string; text: string }>(
        "SELECT state, output->>'text' AS text FROM step WHERE kind = 'tool' AND input->>'order' = $1",
        [part],
      );
      const calls = called.get(part);
      if (tool === "charge") {
        expect(calls, part).toMatchObject({ times: 1, foundStates: ["started"] });
        expect(steps, part).toEqual([{ state: "unknown", text: expect.stringContaining("outcome is unknown") }]);
      } else {
        expect(calls, part).toMatchObject({ times: 2, foundStates: [] });
        expect(steps, part).toEqual([{ state: "done", text: expect.stringContaining(`again: ${part}`) }]);
      }
    }
    expect(await findWastedModelCalls(scene, partsOf)).toEqual([]);
    expect(await findBrokenPromises(database, scene.org.orgId)).toEqual([]);
  };

  test.each(["internal", "worker"] as const satisfies readonly ProcessName[])(
    "of the %s: the unsafe tool was on record before it ran and is not called again, the repeatable one is",
    async (name) => {
      const working = await whileToolsWork(name);
      await scene.shaman.processes[name].kill("SIGKILL");
      await scene.shaman.processes[name].start();
      await expectKept(working);
    },
  );

  test("of a worker that could not record their answers any more: what the unsafe tool did stays unknown", async () => {
    const working = await whileToolsWork("answered");
    const { worker } = scene.shaman.processes;
    worker.signal("SIGSTOP");
    for (const { part } of working.orders) called.get(part)?.release();
    await whenSeen("answers sent", () => (unanswered.size === 0 ? true : undefined));
    await worker.kill("SIGKILL");
    await worker.start();
    await expectKept(working);
  });
});
