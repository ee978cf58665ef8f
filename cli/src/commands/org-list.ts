import { unwrap } from "@shaman/kernel";
import { listOrganizations } from "@shaman/tenancy";
import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import { addCommand, moreHint, pageInput, pageOptions } from "../command.ts";
import { organizationJson } from "../shapes.ts";
import { table } from "../table.ts";
import { fromNow } from "../time.ts";

export const orgList = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "list",
    about: "list organizations",
    options: pageOptions,
    input: pageInput,
    run: async ({ limit, after }, show) => {
      const input = { first: limit, ...(after !== undefined && { after }) };
      const { organizations, endCursor } = unwrap(await listOrganizations({ db: cli.db() }, input));
      const nowMs = cli.clock.now();
      const rows = table(
        [
          { title: "slug", cell: (org) => org.slug },
          { title: "name", cell: (org) => org.name },
          { title: "id", cell: (org) => org.id },
          { title: "created", cell: (org) => fromNow(org.createdAt, nowMs) },
        ],
        organizations,
      );
      const empty = 'No organizations yet. Make one: ./shaman org create acme "Acme Inc."\n';
      show({
        json: { organizations: organizations.map(organizationJson), endCursor },
        text: organizations.length === 0 ? empty : rows + moreHint(endCursor),
      });
    },
  });
