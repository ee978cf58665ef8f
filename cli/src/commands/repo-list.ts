import { listRepositories } from "@shaman/agents";
import { unwrap } from "@shaman/kernel";
import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import { addCommand, moreHint, orgOption, pageInput, pageOptions } from "../command.ts";
import { repositoryJson } from "../shapes.ts";
import { table } from "../table.ts";
import { fromNow } from "../time.ts";

export const repoList = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "list",
    about: "list repositories and how their last sync ended",
    options: (command) => pageOptions(orgOption(command)),
    input: pageInput,
    run: async ({ org, limit, after }, show) => {
      const organization = await cli.organization(org);
      const input = { first: limit, ...(after !== undefined && { after }) };
      const page = unwrap(await listRepositories({ db: cli.db() }, cli.operatorOf(organization), input));
      const nowMs = cli.clock.now();
      const rows = table(
        [
          { title: "name", cell: (repository) => repository.name },
          { title: "state", cell: (repository) => repository.state },
          { title: "agents", cell: (repository) => repository.agents, right: true },
          { title: "live commit", cell: (repository) => repository.liveCommit?.slice(0, 12) },
          { title: "synced", cell: (repository) => fromNow(repository.syncedAt, nowMs) ?? "never" },
          { title: "url", cell: (repository) => repository.url },
          { title: "problem", cell: (repository) => repository.error?.message },
        ],
        page.repositories,
      );
      const hint = `./shaman repo add https://… --org ${organization.slug}`;
      const empty = `${organization.name} has no repositories yet. Add one: ${hint}\n`;
      show({
        json: { repositories: page.repositories.map(repositoryJson), endCursor: page.endCursor },
        text: page.repositories.length === 0 ? empty : rows + moreHint(page.endCursor),
      });
    },
  });
