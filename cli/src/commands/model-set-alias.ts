import { unwrap } from "@shaman/kernel";
import { updateOrganizationSettings } from "@shaman/tenancy";
import type { Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption } from "../command.ts";

export const modelSetAlias = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "set-alias <alias> <models...>",
    about: "name a model, or a list of which each is asked where the one before is away; agents write `model: <alias>`",
    options: orgOption,
    input: z.object({ alias: z.string(), models: z.array(z.string()).min(1) }),
    run: async ({ org, alias, models }, show) => {
      const organization = await cli.organization(org);
      const [only, ...others] = models;
      const patch = { modelAliases: { [alias]: others.length === 0 ? (only ?? null) : models } };
      const deps = { db: cli.db(), origin: cli.origin };
      const settings = unwrap(await updateOrganizationSettings(deps, cli.operatorOf(organization), patch));
      show({
        json: { aliases: settings.modelAliases },
        text: `${alias} is ${models.join(", then ")}. Runs that begin more than 5 seconds from now use it.\n`,
      });
    },
  });
