import { readdirSync, readFileSync } from "node:fs";

const CLOCK_TICKS_PER_SECOND = 100;
const KIB = 1024;

const readProc = (path: string): string | null => {
  try {
    return readFileSync(`/proc/${path}`, "utf8");
  } catch {
    return null;
  }
};

/** Resident memory of a process in bytes; `null` where the system has no /proc. */
export const residentBytes = (pid: number): number | null => {
  const match = /^VmRSS:\s+(\d+) kB/m.exec(readProc(`${pid}/status`) ?? "");
  return match === null ? null : Number(match[1]) * KIB;
};

const statFields = (pid: number): readonly string[] => {
  const stat = readProc(`${pid}/stat`);
  // The second field, the program's name in brackets, may itself hold spaces and brackets.
  return stat === null ? [] : stat.slice(stat.lastIndexOf(")") + 2).split(" ");
};

/** Processor time a process has used so far, in milliseconds; 0 where it is gone or unknown. */
export const cpuMs = (pid: number): number => {
  const fields = statFields(pid);
  return ((Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) * 1_000) / CLOCK_TICKS_PER_SECOND;
};

/** The same for a process and its children, such as PostgreSQL and its backends. */
export const cpuMsWithChildren = (pid: number): number => {
  if (readProc("self/stat") === null) return 0;
  const children = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && statFields(Number(name))[1] === String(pid))
    .map((name) => cpuMs(Number(name)));
  return children.reduce((sum, each) => sum + each, cpuMs(pid));
};
