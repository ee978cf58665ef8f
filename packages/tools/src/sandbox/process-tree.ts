import { readdirSync, readFileSync } from "node:fs";

/** What a tree of processes uses at one moment. */
export type TreeUse = {
  /** Anonymous and shared resident memory: what the processes hold beyond the files they run from. */
  readonly memoryBytes: number;
  /** Processor time of each process by its identity (id and start), and what their ended children had used. */
  readonly cpuTicks: ReadonlyMap<string, number>;
  readonly endedChildrenTicks: number;
};

/** No sandbox may have more; a walk that finds more stops, and what it saw is over every limit anyway. */
const MAX_PROCESSES = 4_096;

/** Linux counts processor time for programs in hundredths of a second on every processor we run on. */
export const TICKS_PER_SECOND = 100;

/** Processes end while they are looked at: what cannot be read is gone. */
const readGone = (path: string): string => {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
};

const childrenOf = (pid: number): readonly number[] => {
  let threads: readonly string[] = [];
  try {
    threads = readdirSync(`/proc/${pid}/task`);
  } catch {
    return [];
  }
  return threads.flatMap((thread) =>
    readGone(`/proc/${pid}/task/${thread}/children`)
      .split(" ")
      .filter((text) => text !== "")
      .map(Number),
  );
};

/** The process and all that descend from it, parents first. Within a process namespace orphans fall to its first process. */
export const processTree = (root: number): readonly number[] => {
  const found = [root];
  for (let index = 0; index < found.length && found.length < MAX_PROCESSES; index += 1) {
    const pid = found[index];
    if (pid !== undefined) found.push(...childrenOf(pid));
  }
  return found;
};

const kilobytes = (status: string, name: string): number =>
  Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)?.[1] ?? 0);

/** Looks at the tree below `root` through /proc (see proc(5)). Synchronous: it reads a few hundred lines from memory. */
export const readTreeUse = (root: number): TreeUse => {
  let memoryBytes = 0;
  let endedChildrenTicks = 0;
  const cpuTicks = new Map<string, number>();
  for (const pid of processTree(root)) {
    const status = readGone(`/proc/${pid}/status`);
    memoryBytes += (kilobytes(status, "RssAnon") + kilobytes(status, "RssShmem")) * 1024;
    // The second field is the program's name in parentheses and may hold anything; what follows the last one is numbers.
    const stat = readGone(`/proc/${pid}/stat`);
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const [user, system, childUser, childSystem] = fields.slice(11, 15).map(Number);
    cpuTicks.set(`${pid}@${fields[19] ?? ""}`, (user ?? 0) + (system ?? 0));
    endedChildrenTicks += (childUser ?? 0) + (childSystem ?? 0);
  }
  return { memoryBytes, cpuTicks, endedChildrenTicks };
};
