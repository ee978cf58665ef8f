import { setTimeout as sleep } from "node:timers/promises";
import { unwrap } from "@shaman/kernel";
import { controlRun, getRun, isTerminal } from "@shaman/runs";
import { Option, type Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption } from "../command.ts";
import { commandDeps } from "../command-deps.ts";
import { stateOf } from "../run-text.ts";
import { runJson } from "../shapes.ts";
import { seconds } from "../time.ts";

const POLL_MS = 200;

export const runCancel = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "cancel <id>",
    about: "cancel a run, down to the model call it is in",
    options: (command) =>
      orgOption(command).addOption(new Option("--timeout <span>", "how long to wait for its end").default("15s")),
    input: z.object({ id: z.string(), timeout: seconds }),
    run: async ({ org, id, timeout }, show) => {
      const principal = cli.operatorOf(await cli.organization(org));
      const { id: runId } = unwrap(await controlRun(commandDeps(cli), principal, { id, kind: "cancel" }));
      const untilMs = cli.clock.now() + timeout * 1_000;
      let run = unwrap(await getRun({ db: cli.db() }, principal, { id: runId }));
      while (!isTerminal(run.state) && cli.clock.now() < untilMs) {
        await sleep(POLL_MS);
        run = unwrap(await getRun({ db: cli.db() }, principal, { id: runId }));
      }
      const ended = isTerminal(run.state);
      const pending = "The command is recorded; a worker carries it out as soon as it can.";
      show({
        json: runJson(run),
        text: `The run ${runId} is ${stateOf(run)}. ${ended ? "" : pending}`.trimEnd() + "\n",
      });
    },
  });
