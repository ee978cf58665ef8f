import { unwrap } from "@shaman/kernel";
import { listMcpSources, type McpSourceView } from "@shaman/mcp";
import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import { addCommand, moreHint, orgOption, pageInput, pageOptions } from "../command.ts";
import { mcpSourceJson } from "../shapes.ts";
import { table } from "../table.ts";

const isExpired = (source: McpSourceView): boolean => source.authorizationExpiredAt !== null;

const expiredHint = (source: McpSourceView): string =>
  `\nThe authorization of ${source.label} has expired or was revoked: run ./shaman mcp authorize ${source.label}\n`;

export const mcpList = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "list",
    about: "list MCP servers, and those that agent files name, with tools that wait for approval",
    options: (command) => pageOptions(orgOption(command)),
    input: pageInput,
    run: async ({ org, limit, after }, show) => {
      const organization = await cli.organization(org);
      const input = { first: limit, ...(after !== undefined && { after }) };
      const page = unwrap(await listMcpSources({ db: cli.db() }, cli.operatorOf(organization), input));
      const rows = table(
        [
          { title: "name", cell: (source) => source.label },
          { title: "kind", cell: (source) => source.kind },
          { title: "tools", cell: (source) => source.tools, right: true },
          { title: "waiting", cell: (source) => source.waiting, right: true },
          { title: "credential", cell: (source) => (isExpired(source) ? "oauth, expired" : (source.auth ?? "none")) },
          { title: "sessions", cell: (source) => (source.stateless === true ? "shared" : "one a run") },
          { title: "url", cell: (source) => source.url },
        ],
        page.sources,
      );
      const hints = page.sources.filter(isExpired).map(expiredHint).join("");
      const hint = `./shaman mcp add <name> https://… --org ${organization.slug}`;
      const empty = `${organization.name} has no MCP servers yet. Add one: ${hint}\n`;
      show({
        json: { sources: page.sources.map(mcpSourceJson), endCursor: page.endCursor },
        text: page.sources.length === 0 ? empty : rows + hints + moreHint(page.endCursor),
      });
    },
  });
