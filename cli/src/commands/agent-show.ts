import { getAgent, type AgentDefinition, type AgentView } from "@shaman/agents";
import { unwrap } from "@shaman/kernel";
import type { Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption } from "../command.ts";
import { agentJson } from "../shapes.ts";
import { fields } from "../table.ts";

export const agentShow = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "show <name>",
    about: "show one agent as it is live: name, path, repository:path or id",
    options: orgOption,
    input: z.object({ name: z.string() }),
    run: async ({ org, name }, show) => {
      const principal = cli.operatorOf(await cli.organization(org));
      const agent = unwrap(await getAgent({ db: cli.db() }, principal, name));
      show({ json: { ...agentJson(agent), definition: agent.definition }, text: describe(agent) });
    },
  });

type Shown = AgentView & { readonly definition: AgentDefinition };

const promptOf = ({ template }: AgentDefinition): string =>
  template.map((segment) => (segment.kind === "text" ? segment.text : "{{prompt}}")).join("");

const list = (names: readonly string[]): string | undefined => (names.length === 0 ? undefined : names.join(", "));

const describe = (agent: Shown): string => {
  const { definition } = agent;
  const limits = Object.entries(definition.limits).map(([name, value]) => `${name} ${value}`);
  const head = fields([
    ["name", agent.name],
    ["id", agent.id],
    ["description", agent.description],
    ["exposed", agent.exposed ? "yes" : "no"],
    ["model", agent.model ?? "the organization's default"],
    ["version", definition.version],
    ["tags", list(agent.tags)],
    ["tools", list(definition.tools)],
    ["MCP servers", list(Object.keys(definition.mcpServers))],
    ["limits", list(limits)],
    ["from", `${agent.repository}:${definition.file}`],
    ["since commit", agent.commit.slice(0, 12)],
  ]);
  return `${head}\n${promptOf(definition).trimEnd()}\n`;
};
