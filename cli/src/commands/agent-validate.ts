import { formatProblem, validateFolder } from "@shaman/agents";
import { unwrap } from "@shaman/kernel";
import { parseScript } from "@shaman/scripts";
import type { Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand } from "../command.ts";
import { failedAfterOutput } from "../failed-after-output.ts";
import { table } from "../table.ts";

/** Needs neither server nor database, so that a repository's own CI can run it. */
export const agentValidate = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "validate <folder>",
    about: "check a folder of agent files as a sync would; exits 1 when anything is refused",
    input: z.object({ folder: z.string() }),
    run: async ({ folder }, show) => {
      const report = unwrap(await validateFolder({ parseScript }, folder));
      const { problems, warnings, agents, aliases, defaultAgent } = report;
      const shown = agents.map(({ path, name, file, exposed, model, description }) => ({
        path,
        name,
        file,
        exposed,
        model: model ?? null,
        description,
      }));
      const json = {
        valid: problems.length === 0,
        problems,
        warnings,
        agents: shown,
        aliases,
        defaultAgent: defaultAgent ?? null,
      };
      if (problems.length > 0) {
        const many = `${problems.length} ${problems.length === 1 ? "problem" : "problems"}`;
        show({
          json,
          text: `${problems.map((each) => `${formatProblem(each)}\n`).join("")}\n${many}: nothing of this folder would go live.\n`,
        });
        throw failedAfterOutput();
      }
      const rows = table(
        [
          { title: "agent", cell: (agent) => agent.path },
          { title: "exposed", cell: (agent) => (agent.exposed ? "yes" : "no") },
          { title: "model", cell: (agent) => agent.model ?? "default" },
          { title: "description", cell: (agent) => agent.description },
        ],
        shown,
      );
      const empty = "No agents in this folder. An agent is Name.md or Name/prompt.md with front matter.\n";
      const verdict =
        warnings.length === 0
          ? "Everything is in order.\n"
          : `${warnings.map((each) => `${formatProblem(each)}\n`).join("")}\nThis folder would go live as it is.\n`;
      show({ json, text: shown.length === 0 ? empty : `${rows}\n${verdict}` });
    },
  });
