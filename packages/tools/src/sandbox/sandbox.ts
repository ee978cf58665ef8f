import type { Readable, Writable } from "node:stream";

import type { ReadOnlyBind, SandboxNetwork } from "./sandbox-arguments.ts";
import type { SandboxLimits } from "./sandbox-limits.ts";
import type { BrokenLimit } from "./watch-limits.ts";

export type SandboxSpec = {
  /** Names the sandbox in the process list: organization, run, server. */
  readonly label: string;
  /** `node` is the Node that runs us; any other is an absolute path, the same inside as outside. */
  readonly command: string;
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly readOnly: readonly ReadOnlyBind[];
  readonly network: SandboxNetwork;
  readonly limits: SandboxLimits;
  /** Lines of its standard error, cut and counted. */
  readonly onLog?: (line: string) => void;
  readonly signal?: AbortSignal;
};

/** Why a sandbox is no more. `ended` by itself; all else is ours. */
export type SandboxEnd = {
  readonly reason: "ended" | "closed" | BrokenLimit | "output";
  readonly code: number | null;
  /** For the run's events. */
  readonly message: string;
};

/** A running sandbox, which belongs to whoever started it. */
export type Sandbox = {
  readonly stdin: Writable;
  readonly stdout: Readable;
  /** Settles once, after the last process has gone. Never rejects. */
  readonly ended: Promise<SandboxEnd>;
  /** Ends all processes at once. */
  readonly kill: (reason: "closed" | "output") => void;
  /** Ends the input, which asks a server to leave, and kills what has not left after a moment. */
  readonly close: () => Promise<SandboxEnd>;
};

/** Why it ended, for people. */
export const endMessage = (reason: SandboxEnd["reason"], code: number | null, limits: SandboxLimits): string => {
  switch (reason) {
    case "ended":
      return `The server ended by itself${code === null ? "" : ` with status ${code}`}.`;
    case "closed":
      return "The server was closed.";
    case "memory":
      return `The server was stopped: it used more than ${limits.memoryBytes} bytes of memory.`;
    case "cpu":
      return `The server was stopped: it used more than ${limits.cpuSeconds} s of processor time.`;
    case "wallClock":
      return `The server was stopped: it ran longer than ${limits.wallClockSeconds} s.`;
    case "output":
      return "The server was stopped: it wrote more than it may.";
  }
};
