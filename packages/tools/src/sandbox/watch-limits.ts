import { readTreeUse, TICKS_PER_SECOND } from "./process-tree.ts";
import type { SandboxLimits } from "./sandbox-limits.ts";

/** A limit that the watcher found broken. */
export type BrokenLimit = "memory" | "cpu" | "wallClock";

const LOOK_EVERY_MS = 100;

/**
 * Processor time of a tree over its life. Children that their parent waited for are in its own account; those that nobody
 * waited for are remembered here. Each misses what the other sees, so the larger one counts.
 */
const createCpuCounter = (): ((use: ReturnType<typeof readTreeUse>) => number) => {
  let live: ReadonlyMap<string, number> = new Map();
  let gone = 0;
  let highest = 0;
  return ({ cpuTicks, endedChildrenTicks }) => {
    for (const [process, ticks] of live) if (!cpuTicks.has(process)) gone += ticks;
    live = cpuTicks;
    const running = [...cpuTicks.values()].reduce((sum, ticks) => sum + ticks, 0);
    highest = Math.max(highest, running + Math.max(gone, endedChildrenTicks));
    return highest / TICKS_PER_SECOND;
  };
};

/**
 * Looks at a tree of processes ten times a second and calls `onBroken` once, at the first limit it has gone beyond.
 * Resident memory and not address space, which WebAssembly reserves by gigabytes without using it.
 */
export const watchLimits = (
  root: number,
  limits: Pick<SandboxLimits, "memoryBytes" | "cpuSeconds" | "wallClockSeconds">,
  onBroken: (limit: BrokenLimit) => void,
): { readonly stop: () => void } => {
  const cpuSeconds = createCpuCounter();
  const endAt = performance.now() + limits.wallClockSeconds * 1_000;
  const look = (): BrokenLimit | undefined => {
    const use = readTreeUse(root);
    if (use.memoryBytes > limits.memoryBytes) return "memory";
    if (cpuSeconds(use) > limits.cpuSeconds) return "cpu";
    return performance.now() > endAt ? "wallClock" : undefined;
  };
  const timer = setInterval(() => {
    const broken = look();
    if (broken === undefined) return;
    clearInterval(timer);
    onBroken(broken);
  }, LOOK_EVERY_MS);
  return { stop: () => clearInterval(timer) };
};
