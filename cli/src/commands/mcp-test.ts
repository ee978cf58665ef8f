import { Option, type Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption } from "../command.ts";
import { failedAfterOutput } from "../failed-after-output.ts";
import { describeLook } from "../mcp-text.ts";
import { lookAtMcpServer } from "../mcp-look.ts";
import { seconds } from "../time.ts";

export const mcpTest = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "test <name>",
    about: "connect to an MCP server as a run would, and list what agents may use; exits 1 when it cannot",
    options: (command) =>
      orgOption(command).addOption(new Option("--timeout <span>", "how long to wait").default("10s")),
    input: z.object({ name: z.string(), timeout: seconds }),
    run: async ({ org, name, timeout }, show) => {
      const organization = await cli.organization(org);
      const look = await lookAtMcpServer(cli, organization, { name, timeoutMs: timeout * 1_000 });
      show({ json: look, text: describeLook(look) });
      if (!look.available) throw failedAfterOutput();
    },
  });
