import type { StepView, TreeTask } from "@shaman/runs";
import { describe, expect, test } from "vitest";
import { runGraph, stepsInTree, usageByTask } from "./run-tree.ts";

const AT = new Date("2026-11-25T10:00:00Z");

const step = (taskId: string, position: number, fields: Partial<StepView>): StepView => ({
  id: `step_${taskId}_${position}`,
  taskId,
  position,
  kind: "model",
  name: "openai/gpt-5",
  state: "done",
  model: null,
  inputTokens: null,
  outputTokens: null,
  costUsd: null,
  childTaskId: null,
  server: null,
  durationMs: null,
  notes: null,
  media: null,
  problem: null,
  decision: null,
  startedAt: AT,
  finishedAt: AT,
  ...fields,
});
const model = (taskId: string, position: number, costUsd: number | null): StepView =>
  step(taskId, position, { model: "gpt-5", inputTokens: 100, outputTokens: 10, costUsd });
const task = (taskId: string, parentTaskId: string | null, agent: string): TreeTask => ({
  taskId,
  parentTaskId,
  agent,
  state: "completed",
});

const RUN = {
  taskId: "a",
  tasks: [task("a", null, "Desk"), task("b", "a", 'Stock "<b>"'), task("c", "b", "Deep")],
  // As they began: the call's child works before the parent's next step.
  stepList: [
    model("a", 1, 0.5),
    step("a", 3, { kind: "tool", name: "order_lookup", server: "shop" }),
    step("a", 2, { kind: "call", name: "Stock", childTaskId: "b" }),
    model("b", 1, null),
    step("b", 2, { kind: "call", name: "Deep", childTaskId: "c", state: "started" }),
    model("c", 1, 0.25),
    model("a", 4, 0.5),
  ],
  failedCalls: [{ taskId: "c", position: 2, model: "gpt-5", inputTokens: 50, outputTokens: 5, costUsd: 0.125, at: AT }],
};

describe("a run's tree", () => {
  test("has each called agent's steps right after the call, by their place", () => {
    expect(stepsInTree(RUN).map(({ place, agent }) => `${place} ${agent}`)).toEqual([
      "1 Desk",
      "2 Desk",
      '2.1 Stock "<b>"',
      '2.2 Stock "<b>"',
      "2.2.1 Deep",
      "3 Desk",
      "4 Desk",
    ]);
  });

  test("tells what each agent used itself, calls without an answer included, and no cost where a price is not known", () => {
    expect(usageByTask(RUN)).toMatchObject([
      { agent: "Desk", modelCalls: 2, toolCalls: 1, inputTokens: 200, outputTokens: 20, costUsd: 1 },
      { modelCalls: 1, toolCalls: 0, costUsd: null },
      { agent: "Deep", modelCalls: 1, failedCalls: 1, inputTokens: 150, outputTokens: 15, costUsd: 0.375 },
    ]);
  });

  test("shows in its flowchart which tool calls a person approved or refused, and which wait", () => {
    const approval = (position: number, decision: string | undefined) =>
      step("a", position, {
        kind: "approval",
        name: "charge",
        state: decision === undefined ? "started" : "done",
        decision: decision === undefined ? null : { decision, by: "operator:ops" },
      });
    const stepList = [approval(1, "approve"), approval(2, "refuse"), approval(3, undefined)];
    const graph = runGraph({ ...RUN, tasks: [task("a", null, "Desk")], stepList });
    expect(graph.split("\n").slice(2, -1)).toEqual([
      '  task1 -.->|"1 approved"| step1(["approval charge"])',
      '  task1 -.->|"2 refused"| step2(["approval charge"])',
      '  task1 -.->|"3 started"| step3(["approval charge"])',
    ]);
  });

  test("is a Mermaid flowchart in which no name can be taken for syntax", () => {
    expect(runGraph(RUN).split("\n")).toEqual([
      "flowchart TD",
      '  task1["Desk: completed, 2 model calls"]',
      '  task2["Stock #34;#60;b#62;#34;: completed, 1 model call"]',
      '  task3["Deep: completed, 1 model call"]',
      '  task1 -->|"2 done"| task2',
      '  task2 -->|"2.2 started"| task3',
      '  task1 -.->|"3 done"| step3(["tool shop: order_lookup"])',
      "",
    ]);
  });
});
