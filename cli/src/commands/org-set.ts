import { unwrap } from "@shaman/kernel";
import { getOrganizationSettings, listSettings, updateOrganizationSettings } from "@shaman/tenancy";
import type { Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption } from "../command.ts";
import { settingPatch } from "../setting-patch.ts";
import { defaultText, settingText } from "../setting-text.ts";

export const orgSet = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "set <setting> <value>",
    about: "change a setting, such as run.maxCostUsd 2; JSON is merged into prices; default takes one back",
    options: orgOption,
    input: z.object({ setting: z.string(), value: z.string() }),
    run: async ({ org, setting, value }, show) => {
      const organization = await cli.organization(org);
      const principal = cli.operatorOf(organization);
      const patch = settingPatch(setting, value);
      const deps = { db: cli.db(), origin: cli.origin };
      unwrap(await updateOrganizationSettings(deps, principal, patch));
      const view = unwrap(await getOrganizationSettings(deps, principal));
      const changed = listSettings(view.settings, view.overrides).filter(
        ({ name, unreadable }) =>
          name === setting ||
          name.startsWith(`${setting}.`) ||
          // An entry of a table that is not read does not hold either.
          (unreadable !== undefined && setting.startsWith(`${name}.`)),
      );
      const lines = changed.map((each) => {
        const other = each.isSet ? `default ${settingText(each.standard)}` : `the ${defaultText(each)}`;
        return `${each.name} is ${settingText(each.value)} (${other}).\n`;
      });
      const gone = changed.length === 0 ? `${setting} is not set any more.\n` : "";
      show({ json: view, text: `${lines.join("")}${gone}Servers and workers follow it within 5 seconds.\n` });
    },
  });
