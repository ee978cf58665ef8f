import { toAppError, type AppError } from "@shaman/kernel";
import { Command, CommanderError } from "commander";
import type { Cli } from "./cli.ts";
import { agentList } from "./commands/agent-list.ts";
import { agentShow } from "./commands/agent-show.ts";
import { agentValidate } from "./commands/agent-validate.ts";
import { auditVerify } from "./commands/audit-verify.ts";
import { doctor } from "./commands/doctor.ts";
import { externalAdd } from "./commands/external-add.ts";
import { externalList } from "./commands/external-list.ts";
import { externalRemove } from "./commands/external-remove.ts";
import { externalTest } from "./commands/external-test.ts";
import { keyCreate } from "./commands/key-create.ts";
import { keyList } from "./commands/key-list.ts";
import { keyRevoke } from "./commands/key-revoke.ts";
import { keyRotate } from "./commands/key-rotate.ts";
import { mcpAdd } from "./commands/mcp-add.ts";
import { mcpApprove } from "./commands/mcp-approve.ts";
import { mcpAuthorize } from "./commands/mcp-authorize.ts";
import { mcpList } from "./commands/mcp-list.ts";
import { mcpRemove } from "./commands/mcp-remove.ts";
import { mcpTest } from "./commands/mcp-test.ts";
import { orgCreate } from "./commands/org-create.ts";
import { orgList } from "./commands/org-list.ts";
import { orgSet } from "./commands/org-set.ts";
import { orgSettings } from "./commands/org-settings.ts";
import { modelClearCache } from "./commands/model-clear-cache.ts";
import { modelList } from "./commands/model-list.ts";
import { modelRecord } from "./commands/model-record.ts";
import { modelRemoveAlias } from "./commands/model-remove-alias.ts";
import { modelSetAlias } from "./commands/model-set-alias.ts";
import { modelSetCache } from "./commands/model-set-cache.ts";
import { modelSetKey } from "./commands/model-set-key.ts";
import { modelTest } from "./commands/model-test.ts";
import { runCancel } from "./commands/run-cancel.ts";
import { runGraphCommand } from "./commands/run-graph.ts";
import { runList } from "./commands/run-list.ts";
import { runAnswer, runApprove, runRefuse } from "./commands/run-reply.ts";
import { runRetry } from "./commands/run-retry.ts";
import { runShow } from "./commands/run-show.ts";
import { runTail } from "./commands/run-tail.ts";
import { repoAdd } from "./commands/repo-add.ts";
import { repoList } from "./commands/repo-list.ts";
import { repoSync } from "./commands/repo-sync.ts";
import { isFailedAfterOutput } from "./failed-after-output.ts";

type AddCommand = (parent: Command, cli: Cli) => void;

const GROUPS: readonly { readonly name: string; readonly about: string; readonly commands: readonly AddCommand[] }[] = [
  { name: "org", about: "organizations", commands: [orgCreate, orgList, orgSettings, orgSet] },
  { name: "key", about: "API keys", commands: [keyCreate, keyList, keyRotate, keyRevoke] },
  { name: "repo", about: "Git repositories of agents", commands: [repoAdd, repoSync, repoList] },
  { name: "agent", about: "agents", commands: [agentList, agentShow, agentValidate] },
  {
    name: "run",
    about: "runs",
    commands: [runList, runShow, runGraphCommand, runTail, runAnswer, runApprove, runRefuse, runCancel, runRetry],
  },
  {
    name: "model",
    about: "model providers",
    commands: [
      modelList,
      modelSetKey,
      modelSetAlias,
      modelRemoveAlias,
      modelSetCache,
      modelClearCache,
      modelTest,
      modelRecord,
    ],
  },
  {
    name: "mcp",
    about: "MCP servers and their tools",
    commands: [mcpAdd, mcpList, mcpTest, mcpApprove, mcpAuthorize, mcpRemove],
  },
  {
    name: "external",
    about: "agents of other organizations",
    commands: [externalAdd, externalList, externalTest, externalRemove],
  },
  { name: "audit", about: "the audit log", commands: [auditVerify] },
];

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

const createProgram = (cli: Cli): Command => {
  const program = new Command("shaman")
    .description("Operates Shaman: organizations, keys, repositories, agents and runs.")
    .exitOverride()
    .showHelpAfterError("(add --help for what is possible)")
    .configureOutput({ writeOut: cli.io.out, writeErr: cli.io.err })
    .configureHelp({ showGlobalOptions: false });
  for (const group of GROUPS) {
    const parent = program.command(group.name).description(group.about);
    for (const add of group.commands) add(parent, cli);
  }
  doctor(program, cli);
  return program;
};

/** Runs one command and gives its exit code: 0 done, 1 failed or refused, 2 not understood. */
export const runProgram = async (cli: Cli, argv: readonly string[]): Promise<number> => {
  try {
    await createProgram(cli).parseAsync([...argv], { from: "user" });
    return 0;
  } catch (error) {
    return explain(cli, error);
  } finally {
    await cli.close();
  }
};

const explain = (cli: Cli, error: unknown): number => {
  if (error instanceof CommanderError) return error.exitCode === 0 || isHelp(error) ? 0 : EXIT_USAGE;
  const failure = toAppError(error);
  if (isFailedAfterOutput(failure)) return EXIT_FAILED;
  cli.io.err(`shaman: ${sentenceOf(failure)}\n`);
  return failure.code === "usage" ? EXIT_USAGE : EXIT_FAILED;
};

const isHelp = (error: CommanderError): boolean => error.code === "commander.helpDisplayed";

/** Operators may read the reason; a stack they need not. */
const sentenceOf = (failure: AppError): string => {
  const cause = failure.cause instanceof Error && failure.kind !== "user" ? causeText(failure.cause) : "";
  return cause === "" || failure.message.includes(cause) ? failure.message : `${failure.message} (${cause})`;
};

/** Node reports several refused addresses as one error without a message. */
const causeText = (cause: Error): string => {
  if (cause.message !== "") return cause.message;
  return cause instanceof AggregateError ? cause.errors.map((each) => toAppError(each).message).join(", ") : cause.name;
};
