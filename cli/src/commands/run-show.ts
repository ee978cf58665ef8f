import { unwrap } from "@shaman/kernel";
import { getRun, type RunDetail, type StepView } from "@shaman/runs";
import type { Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption } from "../command.ts";
import { cost, safe, stateOf, textOfMessage, textOfParts, tokensOf } from "../run-text.ts";
import { runJson, stepJson } from "../shapes.ts";
import { fields, table } from "../table.ts";
import { durationOf } from "../time.ts";

export const runShow = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "show <id>",
    about: "show one run: its steps, messages and artifacts",
    options: orgOption,
    input: z.object({ id: z.string() }),
    run: async ({ org, id }, show) => {
      const principal = cli.operatorOf(await cli.organization(org));
      const run = unwrap(await getRun({ db: cli.db() }, principal, { id }));
      const { stepList, messages, artifacts } = run;
      const json = { ...runJson(run), stepList: stepList.map(stepJson), messages, artifacts };
      show({ json, text: describe(run, cli.clock.now()) });
    },
  });

/** A step that is recorded only once it is done has one moment, not two. */
const stepDuration = (step: StepView, nowMs: number): string | undefined =>
  step.startedAt.getTime() === step.finishedAt?.getTime()
    ? undefined
    : durationOf({ createdAt: step.startedAt, finishedAt: step.finishedAt }, nowMs);

const describe = (run: RunDetail, nowMs: number): string => {
  const head = fields([
    ["run", run.id],
    ["task", run.taskId],
    ["agent", run.agent],
    ["commit", run.commit.slice(0, 12)],
    ["state", stateOf(run)],
    ["by", run.principal],
    ["key", run.apiKeyId],
    ["began", run.createdAt.toISOString()],
    ["took", durationOf(run, nowMs)],
    ["tokens", tokensOf(run)],
    ["cost", cost(run.costUsd)],
    ["error", run.error === null ? undefined : `${run.error.code}: ${run.error.message}`],
  ]);
  const steps = table(
    [
      { title: "step", cell: (step) => step.position, right: true },
      { title: "kind", cell: (step) => step.kind },
      { title: "name", cell: (step) => step.name },
      { title: "state", cell: (step) => step.state },
      { title: "took", cell: (step) => stepDuration(step, nowMs) },
      { title: "in", cell: (step) => step.inputTokens, right: true },
      { title: "out", cell: (step) => step.outputTokens, right: true },
      { title: "cost", cell: (step) => (step.model === null ? undefined : cost(step.costUsd)), right: true },
    ],
    run.stepList,
  );
  const messages = run.messages.map((message) => {
    const who = message["role"] === "ROLE_USER" || message["role"] === "user" ? "caller" : "agent";
    return `${who}: ${safe(textOfMessage(message))}\n`;
  });
  const artifacts = run.artifacts.map((each) => `${each.name ?? "artifact"}: ${safe(textOfParts(each.parts))}\n`);
  const notes = run.stepList.flatMap(notesOf);
  return [head, run.stepList.length === 0 ? "No steps yet.\n" : steps, ...notes, ...messages, ...artifacts].join("\n");
};

const modelNotes = z.object({
  tried: z.array(z.object({ model: z.string(), code: z.string(), message: z.string() })).default([]),
  cached: z.boolean().default(false),
});

const notesOf = (step: StepView): string[] => {
  const parsed = modelNotes.safeParse(step.notes);
  if (!parsed.success) return [];
  const { tried, cached } = parsed.data;
  const lines = tried.map(({ model, message }) => `step ${step.position}: ${model} did not answer: ${safe(message)}\n`);
  if (tried.length > 0) lines.push(`step ${step.position}: ${step.model ?? "another model"} answered\n`);
  return cached ? [...lines, `step ${step.position}: answered from the cache\n`] : lines;
};
