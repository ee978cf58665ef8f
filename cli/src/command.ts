import { Option, type Command } from "commander";
import { describeIssues, userError } from "@shaman/kernel";
import { z } from "zod";
import type { Cli } from "./cli.ts";

export type CommandSpec<Input> = {
  /** Name and arguments as commander writes them: `create <slug>`. */
  readonly signature: string;
  readonly about: string;
  /** Adds the command's own options. */
  readonly options?: (command: Command) => unknown;
  /** Arguments and options together, by name. */
  readonly input: z.ZodType<Input>;
  readonly run: (input: Input & CommonInput, show: Show) => Promise<void>;
};

export type CommonInput = { readonly json: boolean; readonly org?: string | undefined };

/** Prints one JSON document for scripts, or text for people. */
export type Show = (result: { readonly json: unknown; readonly text: string }) => void;

/** What commander reports itself, and what our own schemas find in arguments, ends with exit code 2. */
export const usageError = (message: string) => userError("usage", message);

const common = z.object({
  json: z.boolean().default(false),
  org: z.string().optional(),
  port: z.coerce.number("--port must be a number").int().min(1).max(65_535).optional(),
});

/** Puts one command below its group: arguments and options are parsed by its schema before it runs. */
export const addCommand = <Input>(parent: Command, cli: Cli, spec: CommandSpec<Input>): void => {
  const command = parent.command(spec.signature).description(spec.about);
  spec.options?.(command);
  command.addOption(new Option("--json", "one JSON document instead of text"));
  command.addOption(new Option("--port <number>", "the copy of npm start on this port, where several run").hideHelp());
  command.action(async () => {
    const args = command.registeredArguments.map((argument, at) => [argument.name(), command.processedArgs[at]]);
    const given: unknown = { ...command.opts(), ...Object.fromEntries(args) };
    const parsed = z.intersection(common, spec.input).safeParse(given);
    if (!parsed.success) throw usageError(`${describeIssues(parsed.error.issues)}.`);
    const { json, port } = parsed.data;
    cli.usePort(port);
    await spec.run(parsed.data, (result) =>
      cli.io.out(json ? `${JSON.stringify(result.json, null, 2)}\n` : result.text),
    );
  });
};

/** The option of every command that works inside one organization. */
export const orgOption = (command: Command): Command =>
  command.addOption(new Option("-o, --org <slug>", "the organization (default: SHAMAN_ORG, or the only one)"));

export const pageOptions = (command: Command): Command =>
  command
    .addOption(new Option("--limit <number>", "rows at most").default("50"))
    .addOption(new Option("--after <cursor>", "go on behind this cursor"));

export const pageInput = z.object({
  limit: z.coerce.number("must be a number").int().min(1, "must be 1 to 200").max(200, "must be 1 to 200"),
  after: z.string().optional(),
});

/** The last line of a list that goes on. */
export const moreHint = (cursor: string | null): string =>
  cursor === null ? "" : `\nThere is more: add --after ${cursor}\n`;
