import { unwrap } from "@shaman/kernel";
import { clearModelCache } from "@shaman/tenancy";
import type { Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption } from "../command.ts";

export const modelClearCache = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "clear-cache",
    about: "forget the answers of models that are kept for reuse",
    options: orgOption,
    input: z.object({}),
    run: async ({ org }, show) => {
      const organization = await cli.organization(org);
      const deps = { db: cli.db(), origin: cli.origin };
      const { deleted } = unwrap(await clearModelCache(deps, cli.operatorOf(organization)));
      show({ json: { deleted }, text: `Forgot ${deleted} ${deleted === 1 ? "answer" : "answers"}.\n` });
    },
  });
