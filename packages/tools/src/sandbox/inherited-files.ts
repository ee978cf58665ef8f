import { readdirSync, readFileSync } from "node:fs";

const CLOSE_ON_EXEC = 0o2000000;
/** What `spawn` may be told about; a process that inherited a higher number starts no sandbox. */
const HIGHEST = 1_023;

const flagsOf = (descriptor: string): number | undefined => {
  try {
    return Number.parseInt(
      /^flags:\s+(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${descriptor}`, "latin1"))?.[1] ?? "",
      8,
    );
  } catch {
    // The descriptor of the listing itself is closed by now.
    return undefined;
  }
};

/**
 * The file descriptors above `from` that a child of ours would inherit. Node marks all it opens as ending with a new
 * program, so such a descriptor came from whoever started us, and must not reach a sandbox.
 */
export const inheritedFiles = (from: number): readonly number[] => {
  const inherited = readdirSync("/proc/self/fd")
    .filter((descriptor) => Number(descriptor) > from)
    .filter((descriptor) => ((flagsOf(descriptor) ?? CLOSE_ON_EXEC) & CLOSE_ON_EXEC) === 0)
    .map(Number)
    .toSorted((a, b) => a - b);
  const tooHigh = inherited.find((descriptor) => descriptor > HIGHEST);
  if (tooHigh !== undefined) throw new Error(`this process inherited the open file ${tooHigh}`);
  return inherited;
};
