import { unwrap } from "@shaman/kernel";
import { updateOrganizationSettings } from "@shaman/tenancy";
import type { Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption } from "../command.ts";
import { seconds } from "../time.ts";

export const modelSetCache = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "set-cache <span>",
    about: "how long answers are used again where an agent's file has no `cache:`, such as 1h (at most 30d), or off",
    options: orgOption,
    input: z.object({ span: z.union([z.literal("off").transform(() => 0), seconds]) }),
    run: async ({ org, span }, show) => {
      const organization = await cli.organization(org);
      const deps = { db: cli.db(), origin: cli.origin };
      const patch = { modelCache: { seconds: span } };
      const { modelCache } = unwrap(await updateOrganizationSettings(deps, cli.operatorOf(organization), patch));
      const text =
        span === 0 ? "Answers are used once, except where an agent's file has `cache:`." : "Answers are used again.";
      show({ json: { modelCache }, text: `${text} Runs that begin more than 5 seconds from now follow it.\n` });
    },
  });
