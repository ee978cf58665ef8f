import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";

const PROC = existsSync("/proc/self/stat");

/** A process that ended but that its parent has not asked after: where process 1 never asks, it stays for ever. */
const isZombie = (pid: number): boolean => {
  try {
    return PROC && / Z [^)]*$/.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    // It ended between the two questions.
    return true;
  }
};

/** Whether a process with this number runs, whoever owns it. */
export const isProcessAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return !isZombie(pid);
  } catch (thrown) {
    return thrown instanceof Error && "code" in thrown && thrown.code === "EPERM";
  }
};

/** The command line a process was started with, its words separated by spaces; empty when it is gone or not ours to see. */
export const commandOfProcess = (pid: number): string => {
  try {
    if (PROC) return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
    return execFileSync("ps", ["-o", "command=", "-p", String(pid)], { encoding: "utf8" });
  } catch {
    return "";
  }
};
