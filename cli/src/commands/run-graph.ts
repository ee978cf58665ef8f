import { unwrap } from "@shaman/kernel";
import { getRun } from "@shaman/runs";
import type { Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption } from "../command.ts";
import { runGraph } from "../run-tree.ts";

export const runGraphCommand = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "graph <id>",
    about: "print a run's agents, calls and tools as a Mermaid flowchart",
    options: orgOption,
    input: z.object({ id: z.string() }),
    run: async ({ org, id }, show) => {
      const principal = cli.operatorOf(await cli.organization(org));
      const mermaid = runGraph(unwrap(await getRun({ db: cli.db() }, principal, { id })));
      show({ json: { mermaid }, text: mermaid });
    },
  });
