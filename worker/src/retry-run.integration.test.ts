import { callDepthMetadata } from "@shaman/a2a-wire";
import { unwrap } from "@shaman/kernel";
import { createOperatorPrincipal } from "@shaman/access";
import { createPostgresFanOut, createPostgresJobQueue } from "@shaman/queue";
import { controlRun, getRun, type ControlledRun } from "@shaman/runs";
import {
  findBrokenPromises,
  startModelServer,
  startShaman,
  whenRow,
  type ModelReply,
  type Shaman,
  type TestOrg,
} from "@shaman/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";

const AGENT =
  "---\nname: Clerk\ndescription: Does what it is told\nexposed: true\nmodel: shop/test\nlimits: {maxSteps: 7}\n---\nYou are a clerk.\n";

let shaman: Shaman;
let org: TestOrg;
let reply: ModelReply = { status: 400, message: "no such model" };
let close: () => Promise<void>;
let retry: (id: string) => Promise<ControlledRun>;

beforeAll(async () => {
  shaman = await startShaman();
  org = await shaman.givenOrg({ "Clerk.md": AGENT });
  const models = await startModelServer({ wire: "openai", replies: () => reply });
  await shaman.database.inspect(
    "INSERT INTO model_credential (org_id, provider, kind, base_url) VALUES ($1, 'shop', 'openai-compatible', $2)",
    [org.orgId, models.baseUrl],
  );
  const db = shaman.database.as("web");
  const url = shaman.database.roleUrls.web;
  const options = { name: "test-web", onError: () => undefined, url };
  const queue = createPostgresJobQueue({ ...options, takes: false, poolSize: 2 });
  const fanOut = createPostgresFanOut({ ...options, db });
  const deps = { db, queue, fanOut, origin: { server: "cli" }, onEnqueueFailed: () => undefined };
  const operator = createOperatorPrincipal({ orgId: org.orgId, name: "test" });
  retry = async (id) => unwrap(await controlRun(deps, operator, { id, kind: "retry" }));
  close = async () => {
    await Promise.allSettled([queue.close(), fanOut.close(), models.close()]);
    await shaman.close();
  };
});
afterAll(() => close());

const send = async (): Promise<{ id: string; contextId: string }> => {
  const message = { messageId: "m1", role: "ROLE_USER", parts: [{ text: "Do it" }], metadata: callDepthMetadata(2) };
  const answer = await shaman.rpc(org, { agent: "Clerk", method: "SendMessage", params: { message } });
  expect(answer.json.result.task.status.state).toBe("TASK_STATE_FAILED");
  return answer.json.result.task;
};

test("a failed run is done again as a new one, once, with the agent as it is now, and stays failed itself", async () => {
  const task = await send();
  const before = await shaman.database.inspect("SELECT * FROM run WHERE root_task_id = $1", [task.id]);
  reply = { text: ["done"] };
  await org.push({ "Clerk.md": AGENT.replace("maxSteps: 7", "maxSteps: 9") });
  await shaman.processes.worker.kill("SIGKILL");
  const [first, again] = [await retry(task.id), await retry(task.id)];
  expect(again.retriedAs).toEqual(first.retriedAs);
  expect(first.retriedAs).not.toBeNull();
  await shaman.processes.worker.start();
  await whenRow(shaman.database, "SELECT 1 FROM run WHERE id = $1 AND finished_at IS NOT NULL", [
    first.retriedAs?.runId,
  ]);

  const db = shaman.database.as("web");
  const operator = createOperatorPrincipal({ orgId: org.orgId, name: "test" });
  const run = unwrap(await getRun({ db }, operator, { id: first.retriedAs?.runId ?? "" }));
  expect(run).toMatchObject({ state: "completed", taskId: first.retriedAs?.taskId, contextId: task.contextId });
  expect(run.messages[0]).toMatchObject({ messageId: "m1", taskId: run.taskId, referenceTaskIds: [task.id] });
  const limits = "limits->>'maxSteps' AS steps, limits->>'maxDepth' AS depth";
  const runs = await shaman.database.inspect(`SELECT ${limits} FROM run ORDER BY created_at`, []);
  // The agent's own limits are as they are now; how deep its caller lets it call stays.
  expect(runs).toEqual([
    { steps: "7", depth: "2" },
    { steps: "9", depth: "2" },
  ]);
  expect(await shaman.database.inspect("SELECT * FROM run WHERE root_task_id = $1", [task.id])).toEqual(before);
  expect(await findBrokenPromises(shaman.database, org.orgId)).toEqual([]);
});

test("a retry whose job was lost is found by the sweep", async () => {
  const [failed] = await shaman.database.inspect<{ id: string; task: string }>(
    "SELECT id, root_task_id AS task FROM run WHERE state = 'failed'",
  );
  const ids = { run: "run_00000000000000000000000001", task: "task_00000000000000000000000001" };
  await shaman.database.inspect(
    `INSERT INTO task_command (org_id, id, run_id, task_id, kind, payload, actor) VALUES ($1, 'cmd_lost', $2, $3, 'retry', $4, 'test')`,
    [org.orgId, failed?.id, failed?.task, { runId: ids.run, taskId: ids.task }],
  );
  await whenRow(shaman.database, "SELECT 1 FROM run WHERE id = $1 AND state = 'completed'", [ids.run]);
  expect(await findBrokenPromises(shaman.database, org.orgId)).toEqual([]);
});
