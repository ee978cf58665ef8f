import { spawn, type ChildProcess, type SpawnOptions } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { constants, setPriority } from "node:os";
import type { Duplex, Readable, Writable } from "node:stream";

import { err, ok, toAppError, type AppError, type Result } from "@shaman/kernel";
import { z } from "zod";

import { holdSandbox } from "./hold-sandbox.ts";
import { inheritedFiles } from "./inherited-files.ts";
import { createNoticeLog, type NoticeLog } from "./notice-log.ts";
import { drawOuterUser } from "./outer-user.ts";
import {
  INNER_SHELL,
  limitedCommand,
  RUNTIME_FOLDER,
  sandboxArguments,
  type ReadOnlyBind,
} from "./sandbox-arguments.ts";
import { sandboxError } from "./sandbox-error.ts";
import type { Sandbox, SandboxSpec } from "./sandbox.ts";
import type { SandboxPrograms } from "./sandbox-programs.ts";
import { stageUnreachable } from "./staging.ts";
import { seccompFilter } from "./seccomp-filter.ts";
import { untilReady } from "./until-ready.ts";

const START_TIMEOUT_MS = 10_000;
const INSIST_AFTER_MS = 1_000;
const MAX_INFO_BYTES = 4_096;

const INFO_FD = 3;
const ARGS_FD = 4;
const SECCOMP_FD = 5;

const infoSchema = z.object({ "child-pid": z.int().positive() });

/** The id, outside, of the sandbox's first process: with it all others end. */
const readFirstPid = async (info: Readable): Promise<number> => {
  let text = "";
  for await (const chunk of info) {
    text += String(chunk);
    if (text.length > MAX_INFO_BYTES || text.trimEnd().endsWith("}")) break;
  }
  return infoSchema.parse(JSON.parse(text))["child-pid"];
};

/** Streams that `spawn` was asked to make; one that is missing is a fault of ours. */
const streamsOf = (child: ChildProcess) => {
  const { stdin, stdout, stderr } = child;
  const more: readonly (Readable | Writable | null | undefined)[] = child.stdio;
  const [info, args, seccomp] = [more[INFO_FD], more[ARGS_FD], more[SECCOMP_FD]];
  if (!stdin || !stdout || !stderr || !info || !args || !seccomp) throw new Error("A sandbox has no streams");
  // Node types them as one direction or the other; a pipe beyond the first three is a socket, which is both.
  return { stdin, stdout, stderr, info: info as Readable, args: args as Duplex, seccomp: seccomp as Duplex };
};

type Streams = ReturnType<typeof streamsOf>;

/** The child gets our pipes and nothing else: what we inherited ourselves it sees as /dev/null. */
const spawnWithPipes = (program: string, args: readonly string[], options: SpawnOptions): ChildProcess => {
  const stdio: ("pipe" | "ignore" | number)[] = Array<"pipe">(SECCOMP_FD + 1).fill("pipe");
  const nothing = openSync("/dev/null", "r+");
  try {
    for (const descriptor of inheritedFiles(SECCOMP_FD)) {
      while (stdio.length < descriptor) stdio.push("ignore");
      stdio[descriptor] = nothing;
    }
    return spawn(program, args, { ...options, stdio });
  } finally {
    closeSync(nothing);
  }
};

const spawnBwrap = async (
  programs: SandboxPrograms,
  spec: SandboxSpec,
): Promise<Result<{ readonly child: ChildProcess; readonly streams: Streams }>> => {
  const own: ReadOnlyBind[] = [{ from: programs.shell, to: INNER_SHELL }];
  if (spec.command === "node") own.push({ from: process.execPath, to: `${RUNTIME_FOLDER}/node` });
  const outerUser = drawOuterUser();
  const staged = await stageUnreachable([...spec.readOnly, ...own], { outerUser, shell: programs.shell });
  if (!staged.ok) return staged;
  const filter = seccompFilter();
  const options = sandboxArguments({
    environment: spec.environment,
    network: spec.network,
    readOnly: staged.value.readOnly,
    scratchBytes: spec.limits.scratchBytes,
    infoFd: INFO_FD,
    seccompFd: filter === undefined ? undefined : SECCOMP_FD,
  });
  const limited = limitedCommand(spec.limits, { shell: INNER_SHELL, label: spec.label, countProcesses: true });
  const inner = [programs.bwrap, "--args", String(ARGS_FD), "--", ...limited, spec.command, ...spec.args];
  const [program = programs.bwrap, ...args] = [...staged.value.prefix, ...inner];
  const child = spawnWithPipes(program, args, {
    cwd: "/",
    env: {},
    // With a prefix it is the prefix that gives root up, after it has made what only root can.
    ...(outerUser !== undefined && staged.value.prefix.length === 0 && { uid: outerUser, gid: outerUser }),
  });
  const streams = streamsOf(child);
  // A child that dies early closes its ends; its exit says so, and no write may become an uncaught error.
  for (const stream of Object.values(streams)) stream.on("error", () => undefined);
  streams.args.end(options.map((option) => `${option}\0`).join(""));
  streams.seccomp.end(filter);
  // Nothing comes back on these but their end, without which the child never counts as closed.
  for (const pipe of [streams.args, streams.seccomp]) pipe.resume();
  return ok({ child, streams });
};

/** Waits until bubblewrap has made the sandbox; what it says instead is the reason why it could not. */
const untilMade = async (child: ChildProcess, streams: Streams, log: NoticeLog): Promise<number> => {
  const ready = untilReady(streams.stdout);
  ready.catch(() => undefined);
  let timer: NodeJS.Timeout | undefined;
  const failed = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error("it did not start in time")), START_TIMEOUT_MS);
    child.once("error", reject);
    child.once("close", () => reject(new Error(log.lastLine() ?? "it ended before it began")));
  });
  failed.catch(() => undefined);
  try {
    const pid = await Promise.race([readFirstPid(streams.info).catch(() => failed), failed]);
    // Whoever reads the end of the output first waits for the word of the program that ended.
    await Promise.race([ready.catch(() => failed), failed]);
    return pid;
  } finally {
    clearTimeout(timer);
  }
};

/**
 * Starts a program inside bubblewrap. When this returns, the program is about to begin, under its limits, and everything
 * it will ever start ends with the sandbox: on `close`, on `signal`, on a broken limit, and with this process, however it
 * ends. An error says why there is no sandbox, and then nothing was left behind.
 */
export const startSandboxed = async (programs: SandboxPrograms, spec: SandboxSpec): Promise<Result<Sandbox>> => {
  if (spec.signal?.aborted === true) return err(sandboxError("sandbox_failed", "Nobody waits for it any more."));
  const spawned = await spawnBwrap(programs, spec).catch((error: unknown) => err(unavailable(error)));
  if (!spawned.ok) return spawned;
  const { child, streams } = spawned.value;
  const log = createNoticeLog(streams.stderr, spec.onLog);
  try {
    const pid = await untilMade(child, streams, log);
    lowerPriority(pid);
    return ok(hold({ child, streams, pid }, spec));
  } catch (error) {
    child.kill("SIGKILL");
    return err(unavailable(error));
  }
};

const unavailable = (error: unknown): AppError => {
  const { message } = toAppError(error);
  const hint = /uid map|namespace|Operation not permitted|Permission denied/i.test(message)
    ? " The machine must let programs make user namespaces (in a container: its seccomp and AppArmor profiles; on Ubuntu: an AppArmor profile for bwrap)."
    : "";
  return sandboxError("sandbox_unavailable", `bubblewrap could not make a sandbox: ${message}.${hint}`, error);
};

/** The servers of tenants give way to ours. A process that has just ended needs no priority. */
const lowerPriority = (pid: number): void => {
  try {
    setPriority(pid, constants.priority.PRIORITY_BELOW_NORMAL);
  } catch {
    // It has ended, which its exit tells.
  }
};

/** Whether `pid` is still the sandbox's first process and not a later one that got its number: bubblewrap is its parent. */
const isChildOf = (pid: number, parent: number | undefined): boolean => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1] === String(parent);
  } catch {
    return false;
  }
};

/** With a namespace's first process all others go, and bubblewrap, its parent, is there to bury it. */
const hold = (
  { child, streams, pid }: { readonly child: ChildProcess; readonly streams: Streams; readonly pid: number },
  spec: SandboxSpec,
): Sandbox => {
  let insist: NodeJS.Timeout | undefined;
  const killAll = (): void => {
    if (isChildOf(pid, child.pid)) process.kill(pid, "SIGKILL");
    insist ??= setTimeout(() => child.kill("SIGKILL"), INSIST_AFTER_MS);
  };
  const cleanUp = (): void => clearTimeout(insist);
  return holdSandbox({ child, stdin: streams.stdin, stdout: streams.stdout, pid, killAll, cleanUp }, spec);
};
