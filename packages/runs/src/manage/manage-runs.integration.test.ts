import { createApiKey, createOperatorPrincipal, type Principal } from "@shaman/access";
import { newId, systemClock, unwrap } from "@shaman/kernel";
import { createPostgresFanOut, createPostgresJobQueue, type FanOut, type JobQueue } from "@shaman/queue";
import { testDatabase, type TestDatabase } from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { acceptMessage, type AcceptInput } from "../accept.ts";
import { claimRun } from "../lease.ts";
import type { RunOutcome } from "../batch.ts";
import { recordBatch } from "../record-batch.ts";
import { controlRun } from "./control-run.ts";
import { getRun } from "./get-run.ts";
import { listRuns } from "./list-runs.ts";

let database: TestDatabase;
let queue: JobQueue;
let fanOut: FanOut;

beforeAll(async () => {
  database = await testDatabase();
  const options = { name: "test", onError: () => undefined };
  queue = createPostgresJobQueue({ ...options, takes: false, url: database.roleUrls.web, poolSize: 2 });
  fanOut = createPostgresFanOut({ ...options, db: database.as("web"), url: database.roleUrls.web });
});
afterAll(async () => {
  await fanOut.close();
  await queue.close();
  await database.close();
});

const LIMITS = {
  maxSteps: 30,
  maxToolCalls: 100,
  maxDepth: 5,
  maxTokens: 1_000,
  maxCostUsd: 1,
  timeoutSeconds: 60,
  maxAttempts: 3,
  backoffSeconds: 1,
};

const given = async () => {
  const { orgId } = await database.givenOrg();
  const operator = createOperatorPrincipal({ orgId, name: "test" });
  let sent = 0;
  const accept = async (input: Partial<AcceptInput> = {}) => {
    sent += 1;
    const deps = { db: database.as("public"), queue, onEnqueueFailed: () => undefined };
    return unwrap(
      await acceptMessage(deps, {
        orgId,
        principal: "key:key_1",
        apiKeyId: null,
        userId: null,
        agent: "Order",
        repositoryId: "repo_1",
        commit: "c0ffee",
        limits: LIMITS,
        spendIsLimited: false,
        priority: 3,
        message: { messageId: `m${sent}`, role: "ROLE_USER", parts: [{ text: `question ${sent}` }] },
        contextId: undefined,
        messageId: `m${sent}`,
        idempotencyKey: undefined,
        traceparent: undefined,
        ip: undefined,
        protocol: "jsonrpc",
        ...input,
      }),
    );
  };
  const work = async (runId: string, outcome: RunOutcome) => {
    const db = database.as("worker");
    const lease = await claimRun(db, { orgId, runId, leaseMs: 30_000, worker: "test" });
    if (lease === undefined) throw new Error("The run could not be claimed");
    const usage = { model: "openai/gpt-5", inputTokens: 10, outputTokens: 5, cachedInputTokens: 0, costUsd: 0.25 };
    const taskId = lease.rootTaskId;
    await recordBatch(db, lease, {
      events: [],
      tasks: outcome.kind === "finished" ? [{ taskId, state: outcome.state }] : [],
      steps: [
        {
          position: 1,
          kind: "model",
          name: "openai/gpt-5",
          inputHash: "h",
          state: "done",
          usage,
          taskId,
          agent: "Order",
        },
      ],
      failedCalls: [{ taskId, agent: "Order", position: 2, usage: { ...usage, costUsd: 0.5 } }],
      artifacts: [{ taskId, artifactId: "art_1", name: "answer", parts: [{ text: "42" }] }],
      agentMessages: [],
      appliedCommands: [],
      audit: [],
      outcome,
    });
  };
  const deps = { db: database.as("web"), queue, fanOut, origin: { server: "cli", protocol: "cli" } };
  const control = async (id: string, kind: "cancel" | "retry") => {
    const result = await controlRun({ ...deps, onEnqueueFailed: () => undefined }, operator, { id, kind });
    return result.ok ? "ok" : result.error.code;
  };
  return { orgId, operator, deps, accept, work, control };
};

const idsOf = async (from: Awaited<ReturnType<typeof given>>, filter: Parameters<typeof listRuns>[2] = {}) => {
  const ids: string[] = [];
  let after: string | undefined;
  for (;;) {
    const input = { ...filter, first: 2, ...(after !== undefined && { after }) };
    const page = unwrap(await listRuns(from.deps, from.operator, input));
    ids.push(...page.runs.map((run) => run.id));
    if (page.endCursor === null) return ids;
    after = page.endCursor;
  }
};

describe("the list of runs", () => {
  test("has every run once, the newest first, also by agent and by state", async () => {
    const org = await given();
    const runs: string[] = [];
    for (let n = 0; n < 5; n += 1) runs.unshift((await org.accept({ agent: n === 2 ? "Tax" : "Order" })).runId);
    await org.work(runs[0] ?? "", { kind: "finished", state: "completed" });
    expect(await idsOf(org)).toEqual(runs);
    expect(await idsOf(org, { agent: "Tax" })).toEqual([runs[2]]);
    expect(await idsOf(org, { state: "completed" })).toEqual([runs[0]]);
    expect(await idsOf(org, { state: "submitted", agent: "Order" })).toEqual([runs[1], runs[3], runs[4]]);
  });

  test("says by its name who began each, be it a key or a person", async () => {
    const org = await given();
    const { id: keyId } = unwrap(
      await createApiKey({ ...org.deps, clock: systemClock }, org.operator, { name: "Web shop", agents: "*" }),
    ).record;
    const userId = newId("user");
    await database.inspect(`INSERT INTO "user" (id, email, name) VALUES ($1, $1 || '@example.com', 'Ada')`, [userId]);
    await database.inspect("INSERT INTO membership (org_id, user_id, role) VALUES ($1, $2, 'member')", [
      org.orgId,
      userId,
    ]);
    await org.accept({ principal: "operator:ops" });
    await org.accept({ principal: `user:${userId}`, userId });
    await org.accept({ principal: `key:${keyId}`, apiKeyId: keyId });
    const { runs } = unwrap(await listRuns(org.deps, org.operator));
    expect(runs.map(({ principal, apiKeyName, userName }) => ({ principal, apiKeyName, userName }))).toEqual([
      { principal: `key:${keyId}`, apiKeyName: "Web shop", userName: null },
      { principal: `user:${userId}`, apiKeyName: null, userName: "Ada" },
      { principal: "operator:ops", apiKeyName: null, userName: null },
    ]);
  });

  test("refuses a cursor or a page that makes no sense", async () => {
    const { deps, operator } = await given();
    const codes = [];
    for (const input of [{ after: "nonsense" }, { first: 0 }, { first: 201 }]) {
      const result = await listRuns(deps, operator, input);
      codes.push(result.ok ? "ok" : result.error.code);
    }
    expect(codes).toEqual(["invalid_cursor", "invalid_input", "invalid_input"]);
  });
});

describe("one run", () => {
  test("shows its steps with usage, messages and artifacts, by its own or its task's id", async () => {
    const org = await given();
    const { runId, taskId } = await org.accept();
    await org.work(runId, { kind: "finished", state: "completed" });
    const run = unwrap(await getRun(org.deps, org.operator, { id: runId }));
    expect(unwrap(await getRun(org.deps, org.operator, { id: taskId }))).toEqual(run);
    expect(run).toMatchObject({ id: runId, taskId, state: "completed", agent: "Order", steps: 1, costUsd: 0.75 });
    expect(run.stepList).toMatchObject([{ position: 1, kind: "model", state: "done", inputTokens: 10, costUsd: 0.25 }]);
    expect(run.failedCalls).toMatchObject([
      { taskId, position: 2, model: "openai/gpt-5", inputTokens: 10, costUsd: 0.5 },
    ]);
    expect(run.messages).toMatchObject([{ parts: [{ text: "question 1" }] }]);
    expect(run.artifacts).toMatchObject([{ name: "answer", parts: [{ text: "42" }] }]);
  });

  test("of another organization is not found, nor can it be touched", async () => {
    const [mine, theirs] = [await given(), await given()];
    const { runId, taskId } = await theirs.accept();
    for (const id of [runId, taskId, "run_unknown"]) {
      const found = await getRun(mine.deps, mine.operator, { id });
      expect(found.ok ? "ok" : found.error.code).toBe("run_not_found");
      expect(await mine.control(id, "cancel")).toBe("run_not_found");
    }
    expect(await idsOf(mine)).toEqual([]);
  });

  test("is cancelled while it is not over, and tried again only where it failed or waits", async () => {
    const org = await given();
    const [open, completed, failed] = [await org.accept(), await org.accept(), await org.accept()];
    await org.work(completed.runId, { kind: "finished", state: "completed" });
    await org.work(failed.runId, { kind: "finished", state: "failed", error: { code: "x", message: "y" } });
    expect(await org.control(open.taskId, "cancel")).toBe("ok");
    expect(await org.control(completed.runId, "cancel")).toBe("run_finished");
    expect(await org.control(completed.runId, "retry")).toBe("run_not_failed");
    expect(await org.control(failed.runId, "retry")).toBe("ok");
    const commands = await database.inspect(
      "SELECT run_id, kind, actor FROM task_command WHERE org_id = $1 ORDER BY id",
      [org.orgId],
    );
    expect(commands).toEqual([
      { run_id: open.runId, kind: "cancel", actor: "operator:test" },
      { run_id: failed.runId, kind: "retry", actor: "operator:test" },
    ]);
  });

  test("is for those who may only", async () => {
    const org = await given();
    const { runId } = await org.accept();
    const nobody: Principal = { orgId: org.orgId, id: "user:x", apiKeyId: null, ratePerSecond: null, can: () => false };
    const deps = { ...org.deps, onEnqueueFailed: () => undefined };
    for (const result of [
      await listRuns(org.deps, nobody),
      await getRun(org.deps, nobody, { id: runId }),
      await controlRun(deps, nobody, { id: runId, kind: "cancel" }),
    ]) {
      expect(result.ok ? "ok" : result.error.code).toBe("forbidden");
    }
  });
});
