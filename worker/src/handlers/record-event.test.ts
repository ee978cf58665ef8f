import { traceMetadata, type AgentEvent } from "@shaman/a2a-wire";
import type { LeasedRun, RunRecorder } from "@shaman/runs";
import { expect, test } from "vitest";
import { record } from "./record-event.ts";
import { createTaskTree } from "./task-tree.ts";

const RUN: LeasedRun = {
  orgId: "org_1",
  runId: "run_1",
  rootTaskId: "task_root",
  contextId: "ctx_1",
  agent: "Desk",
  repositoryId: "repo_1",
  commit: "c",
  principal: "key:1",
  apiKeyId: null,
  userId: null,
  traceparent: null,
  epoch: 1,
  announced: false,
  holder: "w:1",
  wake: 1,
  priority: 3,
  deadline: new Date(Date.now() + 60_000),
  attempts: 0,
  barrenClaims: 1,
  limits: {},
  used: { steps: 0, tokens: 0, costUsd: 0 },
  taskState: "working",
  waitsFor: undefined,
  spendLimits: { organization: null, key: null },
  messages: [],
  commands: [],
};

const callBegun = (taskId: string, name: string, childTaskId: string): AgentEvent => ({
  statusUpdate: {
    taskId,
    status: { state: "TASK_STATE_WORKING" },
    metadata: traceMetadata({
      kind: "step",
      step: { position: 2, kind: "call", name, inputHash: "h", state: "started", childTaskId },
    }),
  },
});
const begun = callBegun("task_root", "Stock", "task_child");
const status = (taskId: string, state: "TASK_STATE_COMPLETED" | "TASK_STATE_FAILED"): AgentEvent => ({
  statusUpdate: { taskId, status: { state } },
});

const givenRecording = async (db: unknown) => {
  const told: string[] = [];
  const nothing = (): void => undefined;
  const recorder: RunRecorder = {
    status: ({ taskId, state }) => void told.push(`${taskId} ${state}`),
    artifact: () => undefined,
    leftOpen: nothing,
    step: (agent, taskId, step) => void told.push(`${agent} ${taskId} ${step.kind}`),
    usage: ({ agent, taskId, position, usage }) =>
      void told.push(`${agent} ${taskId} ${position} paid ${usage.inputTokens}`),
    event: nothing,
    applied: nothing,
    audit: nothing,
    data: nothing,
    commitNow: nothing,
    abandon: () => undefined,
    finish: () => Promise.reject(new Error("not here")),
    lost: new AbortController().signal,
  };
  // The cast is safe because a first attempt asks the database for nothing but the list of tasks.
  const tree = await createTaskTree(db as Parameters<typeof createTaskTree>[0], RUN);
  return { at: { run: RUN, recorder, tree }, told };
};

const RECORDED_NOTHING = { batch: async () => [{ rows: [], rowCount: 0 }] };

test("a called agent's task ends once, however often a call that is entered again tells of its end", async () => {
  const unused = new Proxy({}, { get: () => () => Promise.reject(new Error("not asked on a first attempt")) });
  const { at, told } = await givenRecording(unused);
  await record(at, begun);
  await record(at, { task: { id: "task_child" } });
  for (const state of ["TASK_STATE_COMPLETED", "TASK_STATE_COMPLETED", "TASK_STATE_FAILED"] as const) {
    expect(record(at, status("task_child", state))).toBeUndefined();
  }
  await record(at, { task: { id: "task_child" } });
  await record(at, status("task_unknown", "TASK_STATE_COMPLETED"));
  expect(told).toEqual(["Desk task_root call", "task_child working", "task_child completed"]);
});

test("the end of a called agent's task ends what it has called and nobody follows any more, however deep", async () => {
  const { told, at } = await givenRecording(RECORDED_NOTHING);
  for (const event of [
    begun,
    callBegun("task_root", "Fraud", "task_beside"),
    callBegun("task_child", "Deep", "task_deep"),
    callBegun("task_deep", "Deeper", "task_deeper"),
    callBegun("task_child", "Quick", "task_quick"),
    status("task_quick", "TASK_STATE_COMPLETED"),
  ]) {
    await record(at, event);
  }
  told.length = 0;
  await record(at, status("task_child", "TASK_STATE_FAILED"));
  expect(told).toEqual(["task_deep canceled", "task_deeper canceled", "task_child failed"]);
  await record(at, status("task_deep", "TASK_STATE_FAILED"));
  expect(told).toHaveLength(3);
});

test("what a model call cost that gave no step is recorded under its agent", async () => {
  const { told, at } = await givenRecording(RECORDED_NOTHING);
  await record(at, begun);
  const usage = { model: "shop/m", inputTokens: 7, outputTokens: 1, cachedInputTokens: 0, costUsd: null };
  const metadata = traceMetadata({ kind: "usage", position: 3, usage });
  await record(at, { statusUpdate: { taskId: "task_child", status: { state: "TASK_STATE_WORKING" }, metadata } });
  expect(told.at(-1)).toBe("Stock task_child 3 paid 7");
});

test("a called agent that fails ends what it had called before itself, those as well that only the record knows", async () => {
  const rows = ["task_deep", "task_deeper"].map((taskId, i) => ({
    taskId,
    parentTaskId: i === 0 ? "task_child" : "task_deep",
    agent: taskId,
    state: "working",
  }));
  const { at, told } = await givenRecording({ batch: async () => [{ rows, rowCount: rows.length }] });
  await record(at, begun);
  await record(at, {
    statusUpdate: {
      taskId: "task_root",
      status: { state: "TASK_STATE_WORKING" },
      metadata: traceMetadata({
        kind: "step",
        step: { position: 3, kind: "call", name: "Other", inputHash: "h", state: "started", childTaskId: "task_other" },
      }),
    },
  });
  await record(at, status("task_child", "TASK_STATE_FAILED"));
  expect(told.slice(2)).toEqual(["task_deep canceled", "task_deeper canceled", "task_child failed"]);
});
