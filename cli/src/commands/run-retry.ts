import { setTimeout as sleep } from "node:timers/promises";
import type { Principal } from "@shaman/access";
import { unwrap } from "@shaman/kernel";
import { controlRun, getRun } from "@shaman/runs";
import { Option, type Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { commandDeps } from "../command-deps.ts";
import { addCommand, orgOption } from "../command.ts";
import { runJson } from "../shapes.ts";
import { seconds } from "../time.ts";

const POLL_MS = 200;

export const runRetry = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "retry <id>",
    about: "do a failed run again as a new run, or have a waiting one go on now",
    options: (command) =>
      orgOption(command).addOption(new Option("--timeout <span>", "how long to wait for the new run").default("15s")),
    input: z.object({ id: z.string(), timeout: seconds }),
    run: async ({ org, id, timeout }, show) => {
      const organization = await cli.organization(org);
      const principal = cli.operatorOf(organization);
      const { retriedAs, ...run } = unwrap(await controlRun(commandDeps(cli), principal, { id, kind: "retry" }));
      const json = { ...runJson(run), retriedAs };
      if (retriedAs === null) {
        show({ json, text: `The run ${run.id} goes on as soon as a worker is free.\n` });
        return;
      }
      const { runId } = retriedAs;
      const begun = await waitForRun(cli, principal, { runId, timeoutMs: timeout * 1_000 });
      const text = begun
        ? `The run ${run.id} is done again as ${runId}. Watch it: ./shaman run tail ${runId} --org ${organization.slug}\n`
        : `The retry is recorded; a worker begins ${runId} as soon as it can.\n`;
      show({ json, text });
    },
  });

/** Whether the worker has made the new run within the time. */
const waitForRun = async (
  cli: Cli,
  principal: Principal,
  { runId, timeoutMs }: { readonly runId: string; readonly timeoutMs: number },
): Promise<boolean> => {
  const untilMs = cli.clock.now() + timeoutMs;
  for (;;) {
    if ((await getRun({ db: cli.db() }, principal, { id: runId })).ok) return true;
    if (cli.clock.now() > untilMs) return false;
    await sleep(POLL_MS);
  }
};
