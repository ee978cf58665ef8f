import { listAgents } from "@shaman/agents";
import { unwrap } from "@shaman/kernel";
import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import { addCommand, moreHint, orgOption, pageInput, pageOptions } from "../command.ts";
import { agentJson } from "../shapes.ts";
import { table } from "../table.ts";

export const agentList = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "list",
    about: "list the agents that are live, private ones too",
    options: (command) => pageOptions(orgOption(command)),
    input: pageInput,
    run: async ({ org, limit, after }, show) => {
      const organization = await cli.organization(org);
      const input = { first: limit, ...(after !== undefined && { after }) };
      const { agents, endCursor } = unwrap(await listAgents({ db: cli.db() }, cli.operatorOf(organization), input));
      const rows = table(
        [
          { title: "name", cell: (agent) => agent.name },
          { title: "exposed", cell: (agent) => (agent.exposed ? "yes" : "no") },
          { title: "model", cell: (agent) => agent.model ?? "default" },
          { title: "from", cell: (agent) => `${agent.repository}:${agent.path}` },
          { title: "description", cell: (agent) => agent.description },
        ],
        agents,
      );
      const hint = `./shaman repo add https://… --org ${organization.slug}`;
      const empty = `${organization.name} has no agents yet. They come with a repository: ${hint}\n`;
      show({
        json: { agents: agents.map(agentJson), endCursor },
        text: agents.length === 0 ? empty : rows + moreHint(endCursor),
      });
    },
  });
