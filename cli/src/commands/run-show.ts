import { unwrap } from "@shaman/kernel";
import { getRun, type FailedCallView, type ProblemView, type RunDetail, type StepView } from "@shaman/runs";
import type { Command } from "commander";
import { z } from "zod";
import { artifactText, withAddresses } from "../artifact-text.ts";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption } from "../command.ts";
import { cost, safe, stateOf, textOfMessage, tokensOf } from "../run-text.ts";
import { failedCallJson, runJson, stepJson } from "../shapes.ts";
import { fields, table } from "../table.ts";
import { durationOf } from "../time.ts";
import { stepsInTree, usageByTask } from "../run-tree.ts";

export const runShow = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "show <id>",
    about: "show one run: its tree of agents, their steps and usage, messages and artifacts",
    options: orgOption,
    input: z.object({ id: z.string() }),
    run: async ({ org, id }, show) => {
      const organization = await cli.organization(org);
      const principal = cli.operatorOf(organization);
      const found = unwrap(await getRun({ db: cli.db() }, principal, { id }));
      const run = { ...found, artifacts: withAddresses(cli, organization, found.artifacts) };
      const { stepList, failedCalls, problems, messages, artifacts, waiting } = run;
      const tasks = usageByTask(run);
      const steps = { stepList: stepList.map(stepJson), failedCalls: failedCalls.map(failedCallJson) };
      const json = { ...runJson(run), waiting, tasks, ...steps, problems, messages, artifacts };
      show({ json, text: describe(run, cli.clock.now()) });
    },
  });

/** Tools and calls say how long they took; of the others, a step recorded only once it is done has one moment, not two. */
const stepDuration = ({ durationMs, startedAt, finishedAt }: StepView, nowMs: number): string | undefined => {
  if (durationMs !== null) return durationMs < 1_000 ? `${durationMs}ms` : `${(durationMs / 1_000).toFixed(1)}s`;
  return startedAt.getTime() === finishedAt?.getTime()
    ? undefined
    : durationOf({ createdAt: startedAt, finishedAt }, nowMs);
};

const waitingText = ({ waiting }: RunDetail): string | undefined => {
  if (waiting === null) return undefined;
  if (waiting.kind === "input") return `an answer to ${waiting.agent}`;
  return `approval ${waiting.approvalId ?? ""} of ${waiting.tool ?? ""} ${JSON.stringify(waiting.arguments)} by ${waiting.agent}`;
};

const named = (name: string | null, id: string | null): string | null => (name === null ? id : `${name} (${id})`);

const describe = (run: RunDetail, nowMs: number): string => {
  const head = fields([
    ["run", run.id],
    ["task", run.taskId],
    ["agent", run.agent],
    ["commit", run.commit.slice(0, 12)],
    ["state", stateOf(run)],
    ["by", named(run.userName, run.principal)],
    ["key", named(run.apiKeyName, run.apiKeyId)],
    ["began", run.createdAt.toISOString()],
    ["took", durationOf(run, nowMs)],
    ["tokens", tokensOf(run)],
    ["cost", cost(run.costUsd)],
    ["waits for", waitingText(run)],
    ["error", run.error === null ? undefined : `${run.error.code}: ${run.error.message}`],
  ]);
  const steps = table(
    [
      { title: "step", cell: (step) => step.place },
      { title: "agent", cell: (step) => step.agent },
      { title: "kind", cell: (step) => step.kind },
      { title: "name", cell: (step) => (step.server === null ? step.name : `${step.server}: ${step.name}`) },
      { title: "state", cell: (step) => step.state },
      { title: "took", cell: (step) => stepDuration(step, nowMs) },
      { title: "in", cell: (step) => step.inputTokens, right: true },
      { title: "out", cell: (step) => step.outputTokens, right: true },
      { title: "cost", cell: (step) => (step.model === null ? undefined : cost(step.costUsd)), right: true },
    ],
    stepsInTree(run),
  );
  const agents = table(
    [
      { title: "agent", cell: (task) => task.agent },
      { title: "task", cell: (task) => task.taskId },
      { title: "state", cell: (task) => task.state },
      { title: "models", cell: (task) => task.modelCalls, right: true },
      { title: "tools", cell: (task) => task.toolCalls, right: true },
      { title: "tokens", cell: tokensOf, right: true },
      { title: "cost", cell: (task) => cost(task.costUsd), right: true },
    ],
    usageByTask(run),
  );
  const tree = run.tasks.length > 1 ? [agents] : [];
  const messages = run.messages.map((message) => {
    const who = message["role"] === "ROLE_USER" || message["role"] === "user" ? "caller" : "agent";
    return `${who}: ${safe(textOfMessage(message))}\n`;
  });
  const artifacts = run.artifacts.map(artifactText);
  const notes = [
    ...run.problems.filter((problem) => !isToldByStep(run, problem)).map((problem) => problemText(run, problem)),
    ...run.stepList.flatMap(notesOf),
    ...run.failedCalls.map((call) => failedCallText(run, call)),
  ];
  const list = run.stepList.length === 0 ? "No steps yet.\n" : steps;
  return [head, list, ...notes, ...tree, ...messages, ...artifacts].join("\n");
};

const agentOf = ({ tasks }: RunDetail, taskId: string): string =>
  tasks.find((task) => task.taskId === taskId)?.agent ?? "";

/** A step that failed has a line of its own, which says why. */
const isToldByStep = ({ stepList }: RunDetail, { taskId, position, message }: ProblemView): boolean =>
  stepList.some(
    (step) => step.taskId === taskId && step.position === position && step.problem?.includes(message) === true,
  );

const problemText = (run: RunDetail, { taskId, position, tool, message }: ProblemView): string => {
  const agent = agentOf(run, taskId);
  const where = position === null ? agent : `step ${position} of ${agent}`;
  return `problem of ${where}: ${tool === null ? "" : `${safe(tool)}: `}${firstLines(message)}\n`;
};

const failedCallText = (run: RunDetail, call: FailedCallView): string => {
  const price = cost(call.costUsd) ?? "at an unknown price";
  return `step ${call.position} of ${agentOf(run, call.taskId)}: ${call.model} gave no answer, for ${tokensOf(call)} tokens (${price})\n`;
};

const modelNotes = z.object({
  tried: z.array(z.object({ model: z.string(), code: z.string(), message: z.string() })).default([]),
  cached: z.boolean().default(false),
  mediaRefused: z.string().optional(),
});

const notesOf = (step: StepView): string[] => {
  const given = (step.media ?? []).map(
    ({ mediaType, bytes }) => `step ${step.position}: ${step.name} gave ${safe(mediaType)}, ${bytes} bytes\n`,
  );
  if (step.problem !== null) given.push(`step ${step.position}: ${step.name} failed: ${firstLines(step.problem)}\n`);
  const decided = decision.safeParse(step.decision);
  if (decided.success) given.push(`step ${step.position}: ${decisionText(step, decided.data)}\n`);
  const parsed = modelNotes.safeParse(step.notes);
  return parsed.success ? [...given, ...modelNotesOf(step, parsed.data)] : given;
};

const decision = z.object({
  decision: z.enum(["approve", "refuse"]),
  by: z.string().optional(),
  reason: z.string().optional(),
});

const decisionText = ({ name }: StepView, { decision: word, by, reason }: z.output<typeof decision>): string => {
  const who = by === undefined ? "" : ` by ${safe(by)}`;
  const why = reason === undefined || reason === "" ? "" : `: ${safe(reason)}`;
  return `${name} was ${word === "approve" ? "approved" : "refused"}${who}${why}`;
};

const MAX_SHOWN_CHARS = 300;

/** What a tool said, without the fence in which a model is given it, on one line. */
const firstLines = (text: string): string => {
  const inner = /\[data (\w+)\]\n([\s\S]*?)(?:\n\[end \1\]|$)/.exec(text)?.[2] ?? text;
  const line = safe(inner).replaceAll(/\s+/g, " ").trim();
  return line.length > MAX_SHOWN_CHARS ? `${line.slice(0, MAX_SHOWN_CHARS)}…` : line;
};

const modelNotesOf = (step: StepView, { tried, cached, mediaRefused }: z.output<typeof modelNotes>): string[] => {
  const lines = tried.map(({ model, message }) => `step ${step.position}: ${model} did not answer: ${safe(message)}\n`);
  if (tried.length > 0) lines.push(`step ${step.position}: ${step.model ?? "another model"} answered\n`);
  if (mediaRefused !== undefined) {
    lines.push(`step ${step.position}: answered without images, which were refused: ${safe(mediaRefused)}\n`);
  }
  return cached ? [...lines, `step ${step.position}: answered from the cache\n`] : lines;
};
