import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { err, ok, type Result } from "@shaman/kernel";

import { holdSandbox } from "./hold-sandbox.ts";
import { createNoticeLog } from "./notice-log.ts";
import { processTree } from "./process-tree.ts";
import { limitedCommand } from "./sandbox-arguments.ts";
import { sandboxError } from "./sandbox-error.ts";
import type { Sandbox, SandboxSpec } from "./sandbox.ts";
import { findProgram } from "./sandbox-programs.ts";
import { untilReady } from "./until-ready.ts";

const SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin";

/** A folder for one server's files; where there is no sandbox it is an ordinary one, without a limit of its own. */
export const makeScratchFolder = (): Promise<string> => mkdtemp(join(tmpdir(), "shaman-mcp-"));

const quietly = (act: () => void): void => {
  try {
    act();
  } catch {
    // It has ended meanwhile.
  }
};

/**
 * Starts a program as it is, for an operator who said in so many words that tenants share the machine. It has an environment
 * of its own, limits of memory, processor time, files and output, and is killed with what can be found of its children. It
 * sees all files and reaches every address that this process does, and a child that cuts itself loose is not found.
 */
export const startUnsandboxed = async (spec: SandboxSpec, scratch: string): Promise<Result<Sandbox>> => {
  if (process.platform !== "linux") {
    return err(sandboxError("sandbox_unavailable", "Stdio MCP servers can be limited and ended on Linux only."));
  }
  const moved = spec.readOnly.find(({ from, to }) => from !== to);
  if (moved !== undefined) {
    return err(sandboxError("sandbox_unavailable", `Without a sandbox ${moved.from} cannot be shown as ${moved.to}.`));
  }
  const [shell, setpriv] = await Promise.all([findProgram("sh"), findProgram("setpriv")]);
  if (shell === undefined) return err(sandboxError("sandbox_unavailable", "The program sh is not on this machine."));
  const limited = limitedCommand(spec.limits, { shell, label: spec.label, countProcesses: false });
  const withParent = setpriv === undefined ? [] : [setpriv, "--pdeathsig", "KILL"];
  const command = spec.command === "node" ? process.execPath : spec.command;
  const [program = shell, ...args] = [...withParent, ...limited, command, ...spec.args];
  const child = spawn(program, args, {
    stdio: ["pipe", "pipe", "pipe"],
    cwd: scratch,
    env: { PATH: SYSTEM_PATH, HOME: scratch, TMPDIR: scratch, LANG: "C.UTF-8", ...spec.environment },
    detached: true,
  });
  const { pid } = child;
  for (const stream of child.stdio) stream?.on("error", () => undefined);
  if (pid === undefined) {
    child.on("error", () => undefined);
    return err(sandboxError("sandbox_failed", "The server could not be started."));
  }
  createNoticeLog(child.stderr, spec.onLog);
  const ready = await untilReady(child.stdout).then(ok, (cause: unknown) =>
    err(sandboxError("sandbox_failed", "The server could not be started.", cause)),
  );
  if (!ready.ok) return ready;

  const killGroup = (): void => quietly(() => process.kill(-pid, "SIGKILL"));
  const killAll = (): void => {
    for (const each of processTree(pid).toReversed()) quietly(() => process.kill(each, "SIGKILL"));
    killGroup();
  };
  const cleanUp = (): void => {
    // What it left in its group, now that nobody can be mistaken for it.
    killGroup();
    void rm(scratch, { recursive: true, force: true }).catch(() => undefined);
  };
  return ok(holdSandbox({ child, stdin: child.stdin, stdout: child.stdout, pid, killAll, cleanUp }, spec));
};
