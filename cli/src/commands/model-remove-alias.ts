import { unwrap, userError } from "@shaman/kernel";
import { updateOrganizationSettings } from "@shaman/tenancy";
import type { Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption } from "../command.ts";

export const modelRemoveAlias = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "remove-alias <alias>",
    about: "forget a name of models; agents that use it will fail",
    options: orgOption,
    input: z.object({ alias: z.string() }),
    run: async ({ org, alias }, show) => {
      const organization = await cli.organization(org);
      if (!Object.hasOwn(organization.settings.modelAliases, alias)) {
        throw userError("model_alias_not_found", `${organization.name} has no model alias "${alias}".`);
      }
      const deps = { db: cli.db(), origin: cli.origin };
      const patch = { modelAliases: { [alias]: null } };
      const settings = unwrap(await updateOrganizationSettings(deps, cli.operatorOf(organization), patch));
      show({ json: { aliases: settings.modelAliases }, text: `Removed ${alias}.\n` });
    },
  });
