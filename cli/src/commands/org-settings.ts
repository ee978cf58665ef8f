import { unwrap } from "@shaman/kernel";
import { getOrganizationSettings, listSettings } from "@shaman/tenancy";
import type { Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption } from "../command.ts";
import { defaultText, settingText } from "../setting-text.ts";
import { table } from "../table.ts";

export const orgSettings = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "settings",
    about: "show an organization's settings and prices, what it has set itself, and what each may be",
    options: orgOption,
    input: z.object({}),
    run: async ({ org }, show) => {
      const organization = await cli.organization(org);
      const view = unwrap(await getOrganizationSettings({ db: cli.db() }, cli.operatorOf(organization)));
      const rows = table(
        [
          { title: "setting", cell: ({ name }) => name },
          { title: "value", cell: ({ value }) => settingText(value) },
          {
            title: "from",
            cell: (setting) =>
              setting.isSet ? `set here (default ${settingText(setting.standard)})` : defaultText(setting),
          },
          { title: "may be", cell: ({ range }) => range },
        ],
        listSettings(view.settings, view.overrides),
      );
      const hint = `\nChange one: ./shaman org set <setting> <value, or default> --org ${organization.slug}\n`;
      show({ json: view, text: rows + hint });
    },
  });
