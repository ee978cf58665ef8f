import { expect, test } from "vitest";
import type { Batch } from "./batch.ts";
import type { TaskView } from "./task-view.ts";
import { tellAnswer, withAnswer } from "./told-answer.ts";

const AT = new Date("2026-11-26T10:00:00.123Z");

type Event = Batch["events"][number];

const status = (state: "working" | "completed"): Event => ({
  type: "task.status",
  taskId: "task_1",
  payload: { state, timestamp: AT.toISOString() },
});

const artifact = (text: string): Event => ({
  type: "task.artifact",
  taskId: "task_1",
  payload: { artifactId: "a", name: "response", parts: [{ text }], append: false, lastChunk: true },
});

const kept = (artifactId: string, text: string): Batch["artifacts"][number] => ({
  taskId: "task_1",
  artifactId,
  name: "response",
  parts: [{ text }],
});

const whole: Batch = {
  events: [status("working"), artifact("Hello"), status("completed")],
  tasks: [{ taskId: "task_1", state: "completed" }],
  steps: [],
  artifacts: [kept("a", "Hello")],
  agentMessages: [],
  appliedCommands: [],
  audit: [],
  outcome: { kind: "finished", state: "completed" },
};
const recorded = { lastSeq: 4, wake: 1, priority: 3, at: AT };

const accepted: TaskView = {
  orgId: "org_1",
  runId: "run_1",
  taskId: "task_1",
  contextId: "ctx_1",
  agent: "Clerk",
  principal: "user_1",
  state: "submitted",
  statusMessage: undefined,
  statusAt: new Date(0),
  artifacts: [],
  history: [{ messageId: "m" }],
  lastSeq: 1,
};

test("a run that is one commit tells its answer, which completes the task as it was accepted", () => {
  const answer = tellAnswer(whole, recorded) ?? "";
  expect(withAnswer(accepted, { seq: 4, answer })).toEqual({
    ...accepted,
    state: "completed",
    statusAt: AT,
    artifacts: [{ artifactId: "a", name: "response", description: null, parts: [{ text: "Hello" }], metadata: null }],
    lastSeq: 4,
  });
  expect(withAnswer({ ...accepted, taskId: "task_2" }, { seq: 4, answer })).toBeUndefined();
  for (const broken of ["", "{", "{}", answer.replace("task_1", "")]) {
    expect(withAnswer(accepted, { seq: 4, answer: broken })).toBeUndefined();
  }
});

test("a told answer has what rows cannot hold replaced, and nothing that was withdrawn", () => {
  const answer = tellAnswer({ ...whole, artifacts: [kept("a", "x\u0000y")] }, recorded) ?? "";
  const view = withAnswer(accepted, { seq: 4, answer });
  expect(view?.artifacts[0]?.parts).toEqual([{ text: "x\ufffdy" }]);
  const empty = tellAnswer({ ...whole, artifacts: [kept("a", "")] }, recorded) ?? "";
  expect(withAnswer(accepted, { seq: 4, answer: empty })?.artifacts).toEqual([]);
});

test.each<[string, Partial<Batch>, lastSeq?: number]>([
  ["has committed before", {}, 5],
  ["goes on", { outcome: { kind: "parked", retryAt: AT, counts: "attempt" } }],
  [
    "failed",
    { tasks: [{ taskId: "task_1", state: "failed" }], outcome: { kind: "finished", state: "failed", error: {} } },
  ],
  ["called an agent", { tasks: [...whole.tasks, { taskId: "task_2", state: "completed" }] }],
  ["spoke with its caller", { agentMessages: [{ taskId: "task_1", message: {} }] }],
  ["heard from an operator", { userMessages: [{ taskId: "task_1", message: {} }] }],
  ["has more to say than a nudge holds", { artifacts: [kept("a", "é".repeat(2_000))] }],
  ["gave several artifacts", { artifacts: [kept("a", "1"), kept("b", "2")] }],
])("a run that %s is looked at", (_what, changes, lastSeq = recorded.lastSeq) => {
  expect(tellAnswer({ ...whole, ...changes }, { ...recorded, lastSeq })).toBeUndefined();
});
