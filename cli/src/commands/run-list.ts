import { unwrap } from "@shaman/kernel";
import { listRuns, RUN_STATES } from "@shaman/runs";
import { Option, type Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, moreHint, orgOption, pageInput, pageOptions } from "../command.ts";
import { runJson } from "../shapes.ts";
import { table } from "../table.ts";
import { durationOf, fromNow } from "../time.ts";
import { beganBy, cost, stateOf, tokensOf } from "../run-text.ts";

export const runList = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "list",
    about: "list runs, the newest first",
    options: (command) =>
      pageOptions(orgOption(command))
        .addOption(new Option("--agent <name>", "only runs of this agent"))
        .addOption(new Option("--state <state>", "only runs in this state").choices(RUN_STATES)),
    input: pageInput.extend({ agent: z.string().optional(), state: z.enum(RUN_STATES).optional() }),
    run: async ({ org, limit, after, agent, state }, show) => {
      const organization = await cli.organization(org);
      const input = {
        first: limit,
        ...(after !== undefined && { after }),
        ...(agent !== undefined && { agent }),
        ...(state !== undefined && { state }),
      };
      const { runs, endCursor } = unwrap(await listRuns({ db: cli.db() }, cli.operatorOf(organization), input));
      const nowMs = cli.clock.now();
      const rows = table(
        [
          { title: "id", cell: (run) => run.id },
          { title: "agent", cell: (run) => run.agent },
          { title: "state", cell: stateOf },
          { title: "by", cell: beganBy },
          { title: "began", cell: (run) => fromNow(run.createdAt, nowMs) },
          { title: "took", cell: (run) => durationOf(run, nowMs) },
          { title: "steps", cell: (run) => run.steps, right: true },
          { title: "tokens", cell: tokensOf, right: true },
          { title: "cost", cell: (run) => cost(run.costUsd), right: true },
        ],
        runs,
      );
      const filtered = agent !== undefined || state !== undefined;
      const none = filtered
        ? "No runs match."
        : `${organization.name} has no runs yet. Call an agent and it shows here.`;
      show({
        json: { runs: runs.map(runJson), endCursor },
        text: runs.length === 0 ? `${none}\n` : rows + moreHint(endCursor),
      });
    },
  });
