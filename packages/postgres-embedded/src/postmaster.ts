import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { AppError } from "@shaman/kernel";
import { commandOfProcess, isProcessAlive } from "./process-table.ts";

/** A PostgreSQL server that runs on a data folder, as its `postmaster.pid` describes it. */
export type Postmaster = { readonly pid: number; readonly port: number };

const PORT_LINE = 3;
const POLL_MS = 25;

/**
 * The server that runs on this data folder, if any. A `postmaster.pid` whose number now belongs to another program (after
 * a crash, or in a copied folder) is removed: PostgreSQL itself would refuse to start because of it.
 */
export const findPostmaster = (data: string): Postmaster | undefined => {
  const file = join(data, "postmaster.pid");
  if (!existsSync(file)) return undefined;
  const lines = readFileSync(file, "utf8").split("\n");
  const pid = Number(lines[0]);
  if (Number.isInteger(pid) && pid > 1 && isProcessAlive(pid) && commandOfProcess(pid).includes(`-D ${data} `)) {
    return { pid, port: Number(lines[PORT_LINE]) };
  }
  rmSync(file, { force: true });
  return undefined;
};

/** Waits until the process is gone; `false` when it is still there after `timeoutMs`. */
const waitUntilGone = async (pid: number, timeoutMs: number): Promise<boolean> => {
  const until = Date.now() + timeoutMs;
  while (isProcessAlive(pid)) {
    if (Date.now() > until) return false;
    await sleep(POLL_MS);
  }
  return true;
};

/** Resolves when a process that is not our child ends. Does not keep this process running. */
export const whenGone = (pid: number): Promise<void> =>
  new Promise((resolve) => {
    const timer = setInterval(() => {
      if (isProcessAlive(pid)) return;
      clearInterval(timer);
      resolve();
    }, 500);
    timer.unref();
  });

const FAST_STOP_MS = 15_000;
const IMMEDIATE_STOP_MS = 5_000;

/** Stops a server: connections are cut and a checkpoint is written; after 15 s without one (recovery follows at the next start). */
export const stopPostmaster = async (pid: number): Promise<void> => {
  for (const [signal, timeoutMs] of [
    ["SIGINT", FAST_STOP_MS],
    ["SIGQUIT", IMMEDIATE_STOP_MS],
  ] as const) {
    if (!isProcessAlive(pid)) return;
    process.kill(pid, signal);
    if (await waitUntilGone(pid, timeoutMs)) return;
  }
  throw new AppError({
    code: "postgres_does_not_stop",
    kind: "operational",
    message: `PostgreSQL (process ${pid}) does not stop: end it by hand.`,
  });
};
