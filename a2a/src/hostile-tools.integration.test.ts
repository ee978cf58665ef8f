import { readFileSync } from "node:fs";
import { findBrokenPromises, givenHostileMcp, orderReply, startOrderScene } from "@shaman/testkit";
import type { HostileMcp, ModelReply, OrderCall, OrderScene } from "@shaman/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";

const SERVERS = ["program", "web", "stream"];
const TROUBLES = ["big", "hang", "flood", "lie"];

let hostile: HostileMcp;
let scene: OrderScene;

/** Every trouble over every way of transport at once, and then the death of each server. */
const reply = (call: OrderCall): ModelReply => {
  const { order, turn } = call;
  if (!order.endsWith("-bad")) return orderReply(call);
  const tools = turn === 1 ? TROUBLES : turn === 2 ? ["die"] : [];
  if (tools.length === 0) return { text: ["All ", "survived"] };
  const toolCalls = SERVERS.flatMap((server) => tools.map((tool) => `${server}__${tool}`));
  return { toolCalls: toolCalls.map((name) => ({ id: `${name}-${call.call}`, name, input: {} })) };
};

beforeAll(async () => {
  hostile = await givenHostileMcp();
  const origin = await hostile.serve();
  const servers = {
    program: { catalogue: "hostile", tools: "*" },
    web: { url: `${origin}/mcp`, tools: "*" },
    stream: { url: `${origin}/sse`, transport: "sse", tools: "*" },
  };
  scene = await startOrderScene({
    agents: { Victim: `mcpServers: ${JSON.stringify(servers)}` },
    env: { MCP_CATALOGUE: hostile.cataloguePath, MCP_SILENCE_TIMEOUT_SECONDS: "2" },
    reply,
  });
});
afterAll(async () => {
  await scene.close();
  await hostile.close();
});

/** The most memory that a process ever held, in megabytes. */
const peakMegabytes = (pid: number): number =>
  Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1_000;

test("tools that do their worst, all at once, are errors of their run: the server's memory is bounded, and others go on", async () => {
  const { internal, worker } = scene.shaman.processes;
  const pids = [internal.pid(), worker.pid()];
  expect((await scene.send("order-before")).status.state).toBe("TASK_STATE_COMPLETED");
  const before = peakMegabytes(internal.pid());
  const bad = scene.send("order-1-bad", "Victim");
  for (const order of ["order-2", "order-3", "order-4"]) {
    expect((await scene.send(order)).status.state, order).toBe("TASK_STATE_COMPLETED");
  }
  const { status, artifacts } = await bad;
  expect(status.state).toBe("TASK_STATE_COMPLETED");
  expect(artifacts.flatMap(({ parts }) => parts.map(({ text }) => text)).join("")).toContain("All survived");
  const steps = await scene.shaman.database.inspect<{ name: string; error: boolean; size: number }>(
    `SELECT name, (output->>'isError')::boolean AS error, length(output::text) AS size FROM step
      WHERE kind = 'tool' AND name LIKE '%\\_\\_%' ORDER BY name`,
  );
  expect(steps.map(({ name }) => name)).toEqual(
    SERVERS.flatMap((server) => [...TROUBLES, "die"].map((tool) => `${server}__${tool}`)).toSorted(),
  );
  for (const { name, error, size } of steps) {
    expect(error, name).toBe(true);
    expect(size, name).toBeLessThan(2_000);
  }
  expect((await scene.send("order-after")).status.state).toBe("TASK_STATE_COMPLETED");
  expect([internal.exitCode(), worker.exitCode(), internal.pid(), worker.pid()]).toEqual([null, null, ...pids]);
  expect(peakMegabytes(internal.pid()) - before).toBeLessThan(300);
  expect(await findBrokenPromises(scene.shaman.database, scene.org.orgId)).toEqual([]);
});
