import { listApiKeys, type ApiKeyRecord } from "@shaman/access";
import { unwrap } from "@shaman/kernel";
import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import { addCommand, moreHint, orgOption, pageInput, pageOptions } from "../command.ts";
import { apiKeyJson } from "../shapes.ts";
import { table } from "../table.ts";
import { fromNow } from "../time.ts";

const AGENTS_SHOWN = 3;

const agentsOf = ({ agents }: ApiKeyRecord): string => {
  if (agents.includes("*")) return "all";
  const more = agents.length - AGENTS_SHOWN;
  return agents.slice(0, AGENTS_SHOWN).join(", ") + (more > 0 ? ` and ${more} more` : "");
};

export const keyList = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "list",
    about: "list API keys, the newest first",
    options: (command) => pageOptions(orgOption(command)),
    input: pageInput,
    run: async ({ org, limit, after }, show) => {
      const organization = await cli.organization(org);
      const input = { first: limit, ...(after !== undefined && { after }) };
      const { keys, endCursor } = unwrap(await listApiKeys(cli.access(), cli.operatorOf(organization), input));
      const nowMs = cli.clock.now();
      const rows = table(
        [
          { title: "id", cell: (key) => key.id },
          { title: "name", cell: (key) => key.name },
          { title: "state", cell: (key) => key.state },
          { title: "agents", cell: agentsOf },
          { title: "last used", cell: (key) => fromNow(key.lastUsedAt, nowMs) ?? "never" },
          { title: "expires", cell: (key) => fromNow(key.expiresAt, nowMs) ?? "never" },
          { title: "created", cell: (key) => fromNow(key.createdAt, nowMs) },
        ],
        keys,
      );
      const hint = `./shaman key create "My app" --all-agents --org ${organization.slug}`;
      const empty = `${organization.name} has no API keys yet. Make one: ${hint}\n`;
      show({
        json: { keys: keys.map(apiKeyJson), endCursor },
        text: keys.length === 0 ? empty : rows + moreHint(endCursor),
      });
    },
  });
