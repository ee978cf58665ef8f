import type { FailedCallView, RunDetail, StepView, TreeTask } from "@shaman/runs";
import { z } from "zod";

/** A step with its place in the run's tree, such as `2.1` for the first step of the agent that step 2 called. */
export type PlacedStep = StepView & { readonly place: string; readonly agent: string };

type Tree = Pick<RunDetail, "taskId" | "tasks" | "stepList" | "failedCalls">;

const MAX_DEPTH = 64;

/** All steps of a run, each called agent's right after the call. */
export const stepsInTree = ({ taskId, tasks, stepList }: Tree): readonly PlacedStep[] => {
  const agents = new Map(tasks.map((task) => [task.taskId, task.agent]));
  const byTask = Map.groupBy(stepList, (step) => step.taskId);
  const placed = (id: string, prefix: string, depth: number): PlacedStep[] =>
    (byTask.get(id) ?? [])
      .toSorted((a, b) => a.position - b.position)
      .flatMap((step) => {
        const place = `${prefix}${step.position}`;
        const below =
          step.childTaskId === null || depth > MAX_DEPTH ? [] : placed(step.childTaskId, `${place}.`, depth + 1);
        return [{ ...step, place, agent: agents.get(id) ?? "" }, ...below];
      });
  return placed(taskId, "", 0);
};

/** What one task has used itself, without those below it; calls of a model that gave no answer are paid for as well. */
export type TaskUsage = TreeTask & {
  readonly modelCalls: number;
  readonly failedCalls: number;
  readonly toolCalls: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** Null where a model's price is not known. */
  readonly costUsd: number | null;
};

type Paid = Pick<StepView | FailedCallView, "model" | "inputTokens" | "outputTokens" | "costUsd">;

export const usageByTask = ({ tasks, stepList, failedCalls }: Tree): readonly TaskUsage[] =>
  tasks.map((task) => {
    const steps = stepList.filter((step) => step.taskId === task.taskId);
    const models = steps.filter((step) => step.kind === "model");
    const failed = failedCalls.filter((call) => call.taskId === task.taskId);
    const paid: readonly Paid[] = [...models, ...failed];
    const sum = (of: (one: Paid) => number | null): number => paid.reduce((total, one) => total + (of(one) ?? 0), 0);
    const known = paid.every((one) => one.model === null || one.costUsd !== null);
    return {
      ...task,
      modelCalls: models.length,
      failedCalls: failed.length,
      toolCalls: steps.filter((step) => step.kind === "tool").length,
      inputTokens: sum((one) => one.inputTokens),
      outputTokens: sum((one) => one.outputTokens),
      costUsd: known ? sum((one) => one.costUsd) : null,
    };
  });

const decision = z.object({ decision: z.enum(["approve", "refuse"]) });
const DECIDED = { approve: "approved", refuse: "refused" };

/** An approval that was decided says how; every other step its state. */
const outcomeOf = (step: StepView): string => {
  const decided = decision.safeParse(step.decision);
  return decided.success ? DECIDED[decided.data.decision] : step.state;
};

/** Mermaid reads quotes, brackets and angle brackets as its own: they go in as entities, everything else as it is. */
const label = (text: string): string =>
  `"${text.replace(/[^\p{L}\p{N} .,:/_()$-]/gu, (char) => `#${char.codePointAt(0) ?? 32};`)}"`;

/** The run as a Mermaid flowchart: agents, the calls between them in order, and what each of them used. */
export const runGraph = (run: Tree): string => {
  const names = new Map(run.tasks.map((task, i) => [task.taskId, `task${i + 1}`]));
  const nodes = usageByTask(run).map((task) => {
    const calls = task.modelCalls === 1 ? "1 model call" : `${task.modelCalls} model calls`;
    return `  ${names.get(task.taskId)}[${label(`${task.agent}: ${task.state}, ${calls}`)}]`;
  });
  const edges = stepsInTree(run).flatMap((step) => {
    const from = names.get(step.taskId);
    if (step.kind === "model" || from === undefined) return [];
    const to = step.childTaskId === null ? undefined : names.get(step.childTaskId);
    if (to !== undefined) return [`  ${from} -->|${label(`${step.place} ${step.state}`)}| ${to}`];
    const node = `step${step.place.replaceAll(".", "_")}`;
    const name = step.server === null ? step.name : `${step.server}: ${step.name}`;
    return [`  ${from} -.->|${label(`${step.place} ${outcomeOf(step)}`)}| ${node}([${label(`${step.kind} ${name}`)}])`];
  });
  return ["flowchart TD", ...nodes, ...edges].map((line) => `${line}\n`).join("");
};
