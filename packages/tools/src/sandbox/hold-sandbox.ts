import type { ChildProcess } from "node:child_process";
import type { Readable, Writable } from "node:stream";

import { GO } from "./sandbox-arguments.ts";
import { endMessage, type Sandbox, type SandboxEnd, type SandboxSpec } from "./sandbox.ts";
import { watchLimits } from "./watch-limits.ts";

const LEAVE_WITHIN_MS = 1_000;

/** A program that waits for our word, and what is particular to how it was started. */
export type StartedProgram = {
  readonly child: ChildProcess;
  readonly stdin: Writable;
  readonly stdout: Readable;
  /** The process whose tree is watched and limited. */
  readonly pid: number;
  /** Ends every process of it at once. */
  readonly killAll: () => void;
  /** Once, when it has ended. */
  readonly cleanUp: () => void;
};

/** Gives the word, and from then on keeps the program to its limits and sees to its end. */
export const holdSandbox = (program: StartedProgram, spec: Pick<SandboxSpec, "limits" | "signal">): Sandbox => {
  const { child, stdin, stdout } = program;
  let reason: SandboxEnd["reason"] = "ended";
  const isGone = (): boolean => child.exitCode !== null || child.signalCode !== null;
  const kill = (why: SandboxEnd["reason"]): void => {
    if (isGone()) return;
    if (reason === "ended") reason = why;
    program.killAll();
  };
  const watch = watchLimits(program.pid, spec.limits, kill);
  const onAbort = (): void => kill("closed");
  spec.signal?.addEventListener("abort", onAbort, { once: true });
  const ended = new Promise<SandboxEnd>((resolve) => {
    const settle = (code: number | null): void => {
      watch.stop();
      spec.signal?.removeEventListener("abort", onAbort);
      program.cleanUp();
      stdin.destroy();
      // What a killed server had still to say interests nobody, and unread streams would stay open.
      if (reason !== "ended") stdout.destroy();
      resolve({ reason, code, message: endMessage(reason, code, spec.limits) });
    };
    if (isGone()) settle(child.exitCode);
    else child.once("exit", settle);
  });
  if (spec.signal?.aborted === true) onAbort();
  stdin.write(GO);
  const close = async (): Promise<SandboxEnd> => {
    if (reason === "ended" && !isGone()) reason = "closed";
    stdin.end();
    const timer = setTimeout(() => kill("closed"), LEAVE_WITHIN_MS);
    const end = await ended;
    clearTimeout(timer);
    return end;
  };
  return { stdin, stdout, ended, kill, close };
};
