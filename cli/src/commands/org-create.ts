import { unwrap } from "@shaman/kernel";
import { createOrganization } from "@shaman/tenancy";
import type { Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand } from "../command.ts";
import { organizationJson } from "../shapes.ts";

export const orgCreate = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "create <slug> [name]",
    about: "make an organization; the slug is its name in addresses",
    input: z.object({ slug: z.string(), name: z.string().optional() }),
    run: async ({ slug, name }, show) => {
      const deps = { db: cli.db(), origin: cli.origin };
      const organization = unwrap(await createOrganization(deps, { actor: cli.actor, slug, name: name ?? slug }));
      show({
        json: organizationJson(organization),
        text:
          `Created the organization ${organization.slug} (${organization.id}).\n` +
          `Next, add its agents: ./shaman repo add <git url> --org ${organization.slug}\n`,
      });
    },
  });
