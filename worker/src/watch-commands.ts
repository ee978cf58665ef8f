import type { Db } from "@shaman/db";
import { CHANNELS, type FanOut } from "@shaman/queue";
import type { Logger } from "@shaman/telemetry";
import { StopRun } from "./handlers/execute-run.ts";
import type { HeldLeases, HeldRun } from "./held-leases.ts";

const POLL_MS = 1_000;

/**
 * Stops the runs of this worker that somebody cancels: a nudge makes it quick, a poll of all held runs together makes
 * it sure. The command row stays open until its effect is committed.
 */
export const watchCommands = async (deps: {
  readonly db: Db;
  readonly fanOut: FanOut;
  readonly held: HeldLeases;
  readonly log: Logger;
}): Promise<{ readonly close: () => void }> => {
  const look = async (orgId: string, runs: readonly HeldRun[]): Promise<void> => {
    const statement = {
      name: "open_cancels",
      text: `SELECT run_id FROM task_command
        WHERE org_id = $1 AND run_id = ANY($2) AND kind = 'cancel' AND applied_at IS NULL`,
      values: [orgId, runs.map(({ lease }) => lease.runId)],
    };
    const [found] = await deps.db.batch(orgId, [statement]);
    for (const row of found?.rows ?? []) deps.held.find(row.run_id)?.stop(new StopRun("cancel"));
  };

  const lookAt = (runs: readonly HeldRun[]): Promise<unknown> =>
    Promise.all([...Map.groupBy(runs, ({ lease }) => lease.orgId)].map(([orgId, own]) => look(orgId, own))).catch(
      (error: unknown) => deps.log.error("command_poll_failed", error),
    );

  await deps.fanOut.subscribe(CHANNELS.command, (runId) => {
    const run = deps.held.find(runId);
    if (run !== undefined) void lookAt([run]);
  });

  let polling = false;
  const timer = setInterval(() => {
    const runs = deps.held.list();
    if (polling || runs.length === 0) return;
    polling = true;
    void lookAt(runs).finally(() => {
      polling = false;
    });
  }, POLL_MS);
  return { close: () => clearInterval(timer) };
};
