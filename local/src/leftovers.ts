import { setTimeout as sleep } from "node:timers/promises";
import { commandOfProcess, isProcessAlive } from "@shaman/postgres-embedded";
import type { LocalFile } from "./local-file.ts";

const GRACE_MS = 12_000;
const POLL_MS = 50;

/**
 * Stops the processes that a killed launcher left running. A number that belongs to another program by now is left
 * alone: only a command line that names `root` is ours.
 */
export const stopLeftovers = async (
  processes: LocalFile["processes"],
  { root, log }: { readonly root: string; readonly log: (line: string) => void },
): Promise<void> => {
  const ours = processes.filter(({ pid }) => isProcessAlive(pid) && commandOfProcess(pid).includes(` ${root}/`));
  for (const { name, pid } of ours) {
    log(`${name} was still running (process ${pid}); it is stopped first.`);
    process.kill(pid, "SIGTERM");
  }
  const until = Date.now() + GRACE_MS;
  while (ours.some(({ pid }) => isProcessAlive(pid))) {
    if (Date.now() > until) {
      for (const { pid } of ours) if (isProcessAlive(pid)) process.kill(pid, "SIGKILL");
    }
    await sleep(POLL_MS);
  }
};
