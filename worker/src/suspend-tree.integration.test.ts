import {
  findBrokenPromises,
  startOrderScene,
  TREE_AGENTS,
  treeModelSteps,
  treeReply,
  whenRow,
  whenSeen,
  type ModelReply,
  type OrderCall,
  type OrderScene,
  type ProcessName,
} from "@shaman/testkit";
import { createOperatorPrincipal } from "@shaman/access";
import { unwrap } from "@shaman/kernel";
import { createPostgresFanOut, createPostgresJobQueue } from "@shaman/queue";
import { replyRun, type ReplyRunInput } from "@shaman/runs";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";

const gates = new Map<string, PromiseWithResolvers<void>>();
const gateOf = (part: string): PromiseWithResolvers<void> => {
  const gate = gates.get(part) ?? Promise.withResolvers<void>();
  gates.set(part, gate);
  return gate;
};

const ask = (id: string) => ({ id, name: "request_input", input: { question: `Which size for ${id}?` } });

/** What becomes of an order is in its name: whom it holds up, who asks, who is turned away by the provider. */
const reply = (call: OrderCall): ModelReply => {
  const { order, turn } = call;
  if (order.includes("order-held-") && call.call === 1 && order.endsWith(heldPart(order))) {
    return { ...treeReply(call), before: gateOf(order).promise };
  }
  if (order.includes("order-busy") && order.endsWith("-deep") && call.call === 1) {
    return { status: 429, headers: { "retry-after": "1" } };
  }
  const asks = order.includes("order-asking") && order.endsWith("-deep") && turn === 1;
  return asks ? { toolCalls: [ask(`q-${order}`)] } : treeReply(call);
};

/** `order-held-root-1` holds the root's own first answer, `order-held-deep-1-helper-deep` that of the agent below. */
const heldPart = (order: string): string => {
  const place = /order-held-(root|helper|checker|deep)-/.exec(order)?.[1] ?? "";
  return place === "root" ? "-1" : `-${place}`;
};

let scene: OrderScene;
beforeAll(async () => {
  const approving = "approval: [write_artifact]";
  scene = await startOrderScene({ agents: { ...TREE_AGENTS, Strict: approving }, reply });
});
afterAll(async () => {
  for (const gate of gates.values()) gate.resolve();
  await scene.close();
});
afterEach(async () => {
  expect(await findBrokenPromises(scene.shaman.database, scene.org.orgId)).toEqual([]);
});

const restart = async (name: ProcessName): Promise<void> => {
  const process = scene.shaman.processes[name];
  await process.kill("SIGKILL");
  await process.start();
};

const expectCalls = async (order: string, taskId: string, extra = 0): Promise<void> => {
  const [run] = await scene.shaman.database.inspect<{ epoch: number }>(
    "SELECT lease_epoch AS epoch FROM run WHERE root_task_id = $1",
    [taskId],
  );
  for (const part of [order, `${order}-helper`, `${order}-helper-deep`, `${order}-checker`]) {
    const calls = scene.modelCalls.get(part) ?? 0;
    expect(calls, part).toBeGreaterThanOrEqual(treeModelSteps(part));
    expect(calls, part).toBeLessThanOrEqual(treeModelSteps(part) + (run?.epoch ?? 1) - 1 + extra);
  }
};

describe("kill -9", () => {
  test.each([
    ["worker", "root", ""],
    ["internal", "root", ""],
    ["worker", "checker", "-checker"],
    ["internal", "checker", "-checker"],
    ["worker", "helper", "-helper"],
    ["internal", "helper", "-helper"],
    ["worker", "deep", "-helper-deep"],
    ["internal", "deep", "-helper-deep"],
  ] as const)(
    "of the %s while the model of the %s is at work costs one call of it, and no other agent's",
    async (name, place, suffix) => {
      const order = `order-held-${place}-${name}-1`;
      const part = `${order}${suffix}`;
      const sent = scene.send(order);
      await whenSeen(part, () => (scene.modelCalls.get(part) === 1 ? true : undefined));
      // What runs beside it has come to its end by then, so that only one answer is under way.
      if (suffix === "-helper-deep") {
        await whenRow(
          scene.shaman.database,
          `SELECT 1 FROM task t JOIN message m ON m.run_id = t.run_id AND m.position = 1
         WHERE t.agent = 'Checker' AND t.state = 'completed' AND m.content->'parts'->0->>'text' = $1`,
          [order],
        );
      }
      await restart(name);
      gateOf(part).resolve();
      const task = await sent;
      expect(task.status.state).toBe("TASK_STATE_COMPLETED");
      expect(scene.modelCalls.get(part)).toBe(treeModelSteps(part) + 1);
      await expectCalls(order, task.id);
    },
  );

  test.each(["worker", "internal"] as const)(
    "of the %s while a called agent's question waits loses neither question nor answer",
    async (name) => {
      const order = `order-asking-${name}`;
      const asked = await scene.send(order);
      expect(asked.status).toMatchObject({
        state: "TASK_STATE_INPUT_REQUIRED",
        message: { parts: [{ text: expect.stringContaining("Which size") }] },
      });
      await restart(name);
      const task = await scene.answer(asked, "XL");
      expect(task.status.state).toBe("TASK_STATE_COMPLETED");
      const [answer] = await scene.shaman.database.inspect(
        "SELECT output->'parts'->0->>'text' AS text FROM step WHERE kind = 'input' AND run_id = (SELECT run_id FROM task WHERE id = $1)",
        [asked.id],
      );
      expect(answer).toEqual({ text: "XL" });
      await expectCalls(order, task.id);
    },
  );

  test("of the worker before it has taken an answer up leaves the answer for the next one", async () => {
    const order = "order-asking-early";
    const asked = await scene.send(order);
    await scene.shaman.processes.worker.kill("SIGKILL");
    const answered = scene.answer(asked, "L");
    await whenRow(scene.shaman.database, "SELECT 1 FROM task_command WHERE kind = 'answer' AND task_id = $1", [
      asked.id,
    ]);
    await scene.shaman.processes.worker.start();
    expect((await answered).status.state).toBe("TASK_STATE_COMPLETED");
    await expectCalls(order, asked.id);
  });
});

/** As `./shaman run approve|refuse|answer` does. */
const operate = async (input: ReplyRunInput) => {
  const { database } = scene.shaman;
  const db = database.as("web");
  const url = database.roleUrls.web;
  const onError = () => undefined;
  const queue = createPostgresJobQueue({ name: "test", onError, takes: false, url, poolSize: 1 });
  const fanOut = createPostgresFanOut({ name: "test", onError, db, url });
  const deps = { db, queue, fanOut, origin: { server: "cli" }, onEnqueueFailed: onError };
  try {
    return await replyRun(deps, createOperatorPrincipal({ orgId: scene.org.orgId, name: "test" }), input);
  } finally {
    await Promise.allSettled([queue.close(), fanOut.close()]);
  }
};

const toolsOf = (taskId: string) =>
  scene.shaman.database.inspect<{ kind: string; state: string }>(
    `SELECT kind, state FROM step WHERE kind IN ('tool', 'approval') AND task_id = $1 ORDER BY position`,
    [taskId],
  );

describe("an approval", () => {
  test.each(["worker", "internal"] as const)(
    "survives kill -9 of the %s, and an operator's decision is for exactly this call, once",
    async (name) => {
      const asked = await scene.send(`order-strict-${name}`, "Strict");
      expect(asked.status.state).toBe("TASK_STATE_INPUT_REQUIRED");
      expect(await toolsOf(asked.id)).toEqual([{ kind: "approval", state: "started" }]);
      await restart(name);
      expect((await operate({ kind: "answer", id: asked.id, text: "yes" })).ok).toBe(false);
      expect((await operate({ kind: "approve", id: "approval_00000000000000000000000000" })).ok).toBe(false);
      const { waiting } = unwrap(await operate({ kind: "approve", id: asked.id }));
      expect(waiting).toMatchObject({ agent: "Strict", tool: "write_artifact", arguments: { name: "receipt-1.txt" } });
      const again = await operate({ kind: "approve", id: waiting.approvalId ?? "" });
      expect(again.ok).toBe(false);
      await whenRow(scene.shaman.database, "SELECT 1 FROM run WHERE root_task_id = $1 AND finished_at IS NOT NULL", [
        asked.id,
      ]);
      expect(await toolsOf(asked.id)).toEqual([
        { kind: "approval", state: "done" },
        { kind: "tool", state: "done" },
      ]);
    },
  );
});

describe("a called agent that the provider turns away for a moment", () => {
  test("parks the whole run, which goes on by itself, although the worker that parked it is gone", async () => {
    const order = "order-busy-1";
    const sent = scene.send(order);
    await whenRow(
      scene.shaman.database,
      `SELECT 1 FROM run r JOIN message m ON m.task_id = r.root_task_id
       WHERE m.content->'parts'->0->>'text' = $1 AND r.wake_at IS NOT NULL AND r.lease_until IS NULL AND r.worker IS NULL`,
      [order],
    );
    await restart("worker");
    const task = await sent;
    expect(task.status.state).toBe("TASK_STATE_COMPLETED");
    await expectCalls(order, task.id);
    const retries = "SELECT count(*)::integer AS count FROM run_event WHERE type = 'run.retry' AND task_id = $1";
    expect(await scene.shaman.database.inspect(retries, [task.id])).toEqual([{ count: 1 }]);
  });
});
