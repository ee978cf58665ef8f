import { unwrap, userError } from "@shaman/kernel";
import { approveMcpTools, getMcpSource, type McpToolView } from "@shaman/mcp";
import { Option, type Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption, usageError } from "../command.ts";
import { safe } from "../run-text.ts";
import { mcpToolJson } from "../shapes.ts";

const describeTool = (tool: McpToolView): string =>
  `${tool.name} (${tool.standing}, ${tool.hash.slice(0, 12)})\n${safe(JSON.stringify(tool.definition, null, 2))}\n`;

const input = z.object({
  server: z.string(),
  tools: z.array(z.string()).default([]),
  all: z.boolean().default(false),
});

/** Tools by the names given, each of which may carry the beginning of the hash that was read: `name@hash`. */
const choose = (waiting: readonly McpToolView[], names: readonly string[]): readonly McpToolView[] =>
  names.map((given) => {
    const [name = "", hash = ""] = given.split("@");
    const tool = waiting.find((each) => each.name === name && each.hash.startsWith(hash));
    if (tool !== undefined) return tool;
    throw userError("mcp_tool_not_waiting", `No tool ${given} of this server waits for approval.`);
  });

export const mcpApprove = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "approve <server> [tools...]",
    about: "let agents use new and changed tools; without tools or --all it shows what waits",
    options: (command) => orgOption(command).addOption(new Option("--all", "approve everything that waits")),
    input,
    run: async ({ org, server, tools: names, all }, show) => {
      if (all && names.length > 0) throw usageError("name tools or say --all, not both");
      const principal = cli.operatorOf(await cli.organization(org));
      const source = unwrap(await getMcpSource({ db: cli.db() }, principal, server));
      const waiting = source.toolList.filter(({ standing }) => standing !== "approved");
      const chosen = all ? waiting : choose(waiting, names);
      if (chosen.length === 0) {
        const hint = `\nApprove: ./shaman mcp approve ${server} <tool>@<hash>, or --all\n`;
        const text =
          waiting.length === 0 ? "Nothing waits for approval.\n" : waiting.map(describeTool).join("\n") + hint;
        show({ json: { approved: [], waiting: waiting.map(mcpToolJson) }, text });
        return;
      }
      const deps = { db: cli.db(), origin: cli.origin };
      const { approved } = unwrap(await approveMcpTools(deps, principal, { sourceId: source.id, tools: chosen }));
      const left = waiting.filter((tool) => !approved.includes(tool.name));
      const text = `Approved ${approved.join(", ")} of ${safe(source.label)}.\n`;
      show({ json: { approved, waiting: left.map(mcpToolJson) }, text });
    },
  });
