import { removeExternalAgent } from "@shaman/external";
import { unwrap } from "@shaman/kernel";
import type { Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption } from "../command.ts";

export const externalRemove = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "remove <name>",
    about: "forget an outside agent, its credential and its figures",
    options: orgOption,
    input: z.object({ name: z.string() }),
    run: async ({ org, name }, show) => {
      const principal = cli.operatorOf(await cli.organization(org));
      const removed = unwrap(await removeExternalAgent({ db: cli.db(), origin: cli.origin }, principal, name));
      show({ json: removed, text: `Removed ${removed.name}.\n` });
    },
  });
