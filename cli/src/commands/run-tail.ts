import { unwrap, userError } from "@shaman/kernel";
import { createRunWatcher, followRun, getRun, isTerminal, listRuns, type RecordedEvent } from "@shaman/runs";
import type { Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption } from "../command.ts";
import { createEventPrinter } from "../event-printer.ts";
import { failedAfterOutput } from "../failed-after-output.ts";

export const runTail = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "tail [id]",
    about:
      "follow a run as it happens, from its beginning to its end (default: the newest); --json prints a line an event",
    options: orgOption,
    input: z.object({ id: z.string().optional() }),
    run: async ({ org, id, json }) => {
      const organization = await cli.organization(org);
      const principal = cli.operatorOf(organization);
      const runId = id ?? (await newestRun(cli, organization.slug, principal));
      const run = unwrap(await getRun({ db: cli.db() }, principal, { id: runId }));
      const watcher = await createRunWatcher({ db: cli.db(), fanOut: cli.fanOut(), onError: () => undefined });
      const print = json
        ? (event: RecordedEvent) => cli.io.out(`${JSON.stringify(event)}\n`)
        : createEventPrinter(cli.io.out);
      const stop = new AbortController();
      try {
        const at = { orgId: principal.orgId, runId: run.id, afterSeq: 0, signal: stop.signal };
        for await (const event of followRun({ db: cli.db(), watcher }, at)) {
          print(event);
          const end = endOf(event, run.taskId);
          if (end === undefined) continue;
          if (end !== "completed") throw failedAfterOutput();
          return;
        }
      } finally {
        stop.abort();
        watcher.close();
      }
    },
  });

const endOf = (event: RecordedEvent, rootTaskId: string): string | undefined =>
  event.type === "task.status" && event.taskId === rootTaskId && isTerminal(event.payload.state)
    ? event.payload.state
    : undefined;

const newestRun = async (cli: Cli, slug: string, principal: ReturnType<Cli["operatorOf"]>): Promise<string> => {
  const { runs } = unwrap(await listRuns({ db: cli.db() }, principal, { first: 1 }));
  if (runs[0] !== undefined) return runs[0].id;
  throw userError("no_runs", `${slug} has no runs yet. Call an agent, then follow its run.`);
};
