/** What one sandboxed program and everything it starts may use, all together unless said otherwise. */
export type SandboxLimits = {
  /** Resident memory (anonymous and shared) of the whole process tree. */
  readonly memoryBytes: number;
  /** Processor time of the whole tree, over its life. */
  readonly cpuSeconds: number;
  /** Processes and threads together, as the kernel counts them. */
  readonly processes: number;
  /** The largest file one process may write. */
  readonly fileBytes: number;
  /** All files in the working folder together; they lie in memory. */
  readonly scratchBytes: number;
  readonly openFiles: number;
  /** From start to end, idle or not. */
  readonly wallClockSeconds: number;
  /** All that is read from its output over its life. */
  readonly outputBytes: number;
};

const MIB = 1024 * 1024;

export const DEFAULT_SANDBOX_LIMITS: SandboxLimits = {
  memoryBytes: 512 * MIB,
  cpuSeconds: 120,
  processes: 64,
  fileBytes: 64 * MIB,
  scratchBytes: 64 * MIB,
  openFiles: 256,
  wallClockSeconds: 900,
  outputBytes: 256 * MIB,
};
