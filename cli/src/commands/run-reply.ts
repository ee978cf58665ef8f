import { userError, type AppError } from "@shaman/kernel";
import { replyRun, type RepliedRun, type ReplyRunInput } from "@shaman/runs";
import { Option, type Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption } from "../command.ts";
import { commandDeps } from "../command-deps.ts";
import { safe } from "../run-text.ts";
import { runJson } from "../shapes.ts";

export const runAnswer = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "answer <id> <text>",
    about: "answer the question that a run waits with",
    options: orgOption,
    input: z.object({ id: z.string(), text: z.string().min(1, "must say something").max(100_000) }),
    run: async ({ org, id, text }, show) => {
      const { run, waiting } = await reply(cli, org, { kind: "answer", id, text });
      show({
        json: { ...runJson(run), answered: waiting },
        text: `The run ${run.id} goes on with the answer: ./shaman run tail ${run.id}\n`,
      });
    },
  });

export const runApprove = (parent: Command, cli: Cli): void => decision(parent, cli, "approve");
export const runRefuse = (parent: Command, cli: Cli): void => decision(parent, cli, "refuse");

const ABOUT = {
  approve: "approve the tool call that a run waits with; its id names exactly these arguments",
  refuse: "refuse the tool call that a run waits with; the agent is told the reason",
};

const decision = (parent: Command, cli: Cli, kind: "approve" | "refuse"): void =>
  addCommand(parent, cli, {
    signature: `${kind} <id>`,
    about: ABOUT[kind],
    options: (command) => {
      orgOption(command);
      if (kind === "refuse") command.addOption(new Option("--reason <text>", "why, for the agent"));
    },
    input: z.object({ id: z.string(), reason: z.string().max(10_000).optional() }),
    run: async ({ org, id, reason }, show) => {
      const input = { kind, id, ...(reason !== undefined && { reason }) };
      const { run, waiting } = await reply(cli, org, input);
      const made = kind === "approve" ? "Approved" : "Refused";
      const call = `${waiting.tool ?? "the call"} ${safe(JSON.stringify(waiting.arguments))}`;
      show({
        json: { ...runJson(run), [kind === "approve" ? "approved" : "refused"]: waiting },
        text: `${made}: ${waiting.agent} calling ${call}\nThe run ${run.id} goes on: ./shaman run tail ${run.id}\n`,
      });
    },
  });

const reply = async (cli: Cli, org: string | undefined, input: ReplyRunInput): Promise<RepliedRun> => {
  const organization = await cli.organization(org);
  const replied = await replyRun(commandDeps(cli), cli.operatorOf(organization), input);
  if (replied.ok) return replied.value;
  const { error } = replied;
  const hint = otherReply(error, input.kind, organization.slug);
  throw hint === undefined ? error : userError(error.code, `${error.message} ${hint}`);
};

const waitsFor = z.object({ runId: z.string(), waitsFor: z.enum(["input", "approval"]) });

/** The command that a run does wait for. */
const otherReply = (error: AppError, given: ReplyRunInput["kind"], slug: string): string | undefined => {
  const waits = waitsFor.safeParse(error.details);
  if (error.code !== "run_not_waiting" || !waits.success) return undefined;
  const { runId, waitsFor: kind } = waits.data;
  if (kind === "input") {
    return given === "answer" ? undefined : `Answer its question: ./shaman run answer ${runId} "<text>" --org ${slug}`;
  }
  if (given !== "answer") return undefined;
  return `Decide about its call: ./shaman run approve ${runId} --org ${slug}, or ./shaman run refuse ${runId} --org ${slug}`;
};
