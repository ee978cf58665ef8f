import { unwrap } from "@shaman/kernel";
import { controlRun } from "@shaman/runs";
import type { Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption } from "../command.ts";
import { commandDeps } from "../command-deps.ts";
import { runJson } from "../shapes.ts";

export const runRetry = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "retry <id>",
    about: "try a failed or waiting run again",
    options: orgOption,
    input: z.object({ id: z.string() }),
    run: async ({ org, id }, show) => {
      const organization = await cli.organization(org);
      const principal = cli.operatorOf(organization);
      const run = unwrap(await controlRun(commandDeps(cli), principal, { id, kind: "retry" }));
      const watch = `./shaman run tail ${run.id} --org ${organization.slug}`;
      show({ json: runJson(run), text: `A worker tries the run ${run.id} again. Watch it: ${watch}\n` });
    },
  });
