import { writeFile } from "node:fs/promises";
import { unwrap, userError } from "@shaman/kernel";
import { listModelAnswers, type ModelAnswer } from "@shaman/runs";
import { writeRecording, type RecordedAnswer } from "@shaman/scripts";
import { Option, type Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption } from "../command.ts";

const recordedOutput = z.object({
  text: z.string(),
  toolCalls: z.array(z.object({ name: z.string(), input: z.json() })),
  finishReason: z.string(),
  notes: z.object({
    request: z.object({ system: z.string(), messages: z.string(), tools: z.string(), settings: z.string() }),
  }),
});

const recordedOf = (answer: ModelAnswer): RecordedAnswer => {
  if (answer.output === null) {
    throw userError("nothing_to_record", "What the model answered in this run was deleted because of its age.");
  }
  const output = recordedOutput.safeParse(answer.output);
  if (!output.success) {
    throw userError(
      "nothing_to_record",
      `Step ${answer.position} was answered by ${answer.model ?? "no model"}: only answers of a provider's model can be recorded.`,
    );
  }
  const { text, toolCalls, finishReason, notes } = output.data;
  const usage = {
    inputTokens: answer.inputTokens ?? 0,
    outputTokens: answer.outputTokens ?? 0,
    cachedInputTokens: answer.cachedInputTokens ?? 0,
  };
  return { request: notes.request, text, toolCalls, finishReason, usage, model: answer.model ?? "a model" };
};

const write = async (path: string, text: string): Promise<void> => {
  try {
    await writeFile(path, text, { flag: "wx" });
  } catch (cause) {
    const exists = cause instanceof Error && "code" in cause && cause.code === "EEXIST";
    throw userError(
      "recording_not_written",
      exists ? `${path} is there already: name another file, or remove it first.` : `${path} cannot be written.`,
    );
  }
};

export const modelRecord = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "record <run>",
    about:
      "write what the model answered in a run (or task) as a script, which plays it again to exactly the same requests",
    options: (command) =>
      orgOption(command).addOption(new Option("--out <file>", "where to (default: standard output)")),
    input: z.object({ run: z.string(), out: z.string().optional() }),
    run: async ({ org, run: id, out }, show) => {
      const organization = await cli.organization(org);
      const found = unwrap(await listModelAnswers({ db: cli.db() }, cli.operatorOf(organization), { id }));
      if (found.answers.length === 0) throw userError("nothing_to_record", "No model has answered in this run yet.");
      const script = unwrap(writeRecording(found.answers.map(recordedOf), `${found.agent} in ${found.runId}`));
      if (out !== undefined) await write(out, script);
      const count = found.answers.length;
      show({
        json: { runId: found.runId, answers: count, script },
        text:
          out === undefined
            ? script
            : `Wrote ${count} ${count === 1 ? "answer" : "answers"} to ${out}. Commit it beside the agent, with model: scripted/<file>.\n`,
      });
    },
  });
