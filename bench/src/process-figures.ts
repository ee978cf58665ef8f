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

/** Fields of /proc/<pid>/stat after the program's name, from proc(5): user and system time, own and of ended children. */
const OWN_TIMES = [11, 12] as const;
const ENDED_CHILDREN_TIMES = [13, 14] as const;
const PARENT = 1;

const sumMs = (fields: readonly string[], places: readonly number[]): number =>
  (places.reduce((sum, place) => sum + Number(fields[place] ?? 0), 0) * 1_000) / CLOCK_TICKS_PER_SECOND;

/** Processor time a process has used so far, in milliseconds; 0 where it is gone or unknown. */
export const cpuMs = (pid: number): number => sumMs(statFields(pid), OWN_TIMES);

/** The same for a process with its children, those that ended included: PostgreSQL and its backends. */
export const cpuMsWithChildren = (pid: number): number => {
  if (readProc("self/stat") === null) return 0;
  const children = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && statFields(Number(name))[PARENT] === String(pid))
    .map((name) => cpuMs(Number(name)));
  return children.reduce((sum, each) => sum + each, sumMs(statFields(pid), [...OWN_TIMES, ...ENDED_CHILDREN_TIMES]));
};
