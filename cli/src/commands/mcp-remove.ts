import { unwrap } from "@shaman/kernel";
import { removeMcpServer } from "@shaman/mcp";
import type { Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption } from "../command.ts";

export const mcpRemove = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "remove <name>",
    about: "forget an MCP server, its credential and what was approved of it",
    options: orgOption,
    input: z.object({ name: z.string() }),
    run: async ({ org, name }, show) => {
      const principal = cli.operatorOf(await cli.organization(org));
      const removed = unwrap(await removeMcpServer({ db: cli.db(), origin: cli.origin }, principal, { name }));
      show({ json: removed, text: `Removed ${removed.name}.\n` });
    },
  });
