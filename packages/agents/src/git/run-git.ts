import { spawn } from "node:child_process";
import { dirname } from "node:path";

import { AppError } from "@shaman/kernel";

/** How Git is started on this installation. */
export type GitProgram = {
  /** The program itself; a name is looked up in the usual folders. */
  readonly program: string;
  /** Largest file Git may write, in bytes: a pack beyond it is cut off by the kernel. */
  readonly maxFileBytes: number;
  /** An existing folder without any configuration in it, which Git takes for the home of its user. */
  readonly home: string;
};

export type GitRun = {
  readonly args: readonly string[];
  /** Configuration of this run. It travels in the environment, so that nothing of it is seen in a process list. */
  readonly config?: readonly (readonly [key: string, value: string])[];
  /** Protocols this run may speak; none unless named. */
  readonly protocol?: "https" | "http" | "file";
  readonly input?: string;
  readonly timeoutMs: number;
  readonly maxOutputBytes: number;
  readonly signal?: AbortSignal | undefined;
};

export type GitOutcome = {
  /** `ended` by itself, `full` when it said more than was asked for, `late` when its time was over, `aborted` by us. */
  readonly end: "ended" | "full" | "late" | "aborted";
  readonly code: number | null;
  readonly stdout: Buffer;
  /** The last of what it complained about. */
  readonly stderr: string;
};

const SEARCH_PATH = "/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin:/opt/local/bin:/run/current-system/sw/bin";
const MAX_STDERR_CHARS = 8_000;
/** Address space of Git, in kB: a pack that inflates without end fails instead of filling the machine. */
const MAX_MEMORY_KB = 2 * 1024 * 1024;
const FILE_BLOCK_BYTES = 512;

/** What holds for every run, whatever the machine or a repository says. */
const ALWAYS: readonly (readonly [string, string])[] = [
  ["protocol.allow", "never"],
  ["protocol.ext.allow", "never"],
  ["core.hooksPath", "/dev/null"],
  ["core.fsmonitor", "false"],
  ["core.askPass", ""],
  ["core.bigFileThreshold", "1m"],
  ["credential.helper", ""],
  ["http.followRedirects", "false"],
  ["http.sslVerify", "true"],
  ["http.proxy", ""],
  ["http.lowSpeedLimit", "1000"],
  ["http.lowSpeedTime", "20"],
  ["transfer.bundleURI", "false"],
  ["fetch.uriProtocols", ""],
  ["fetch.recurseSubmodules", "false"],
  ["fetch.unpackLimit", "1"],
  ["fetch.writeCommitGraph", "false"],
  ["pack.threads", "1"],
  ["gc.auto", "0"],
  ["maintenance.auto", "false"],
];

/** Nothing of our own environment goes to Git: no proxies, no credentials, no configuration of whoever started us. */
const environmentOf = (git: GitProgram, run: GitRun): Record<string, string> => {
  const config = [...ALWAYS, ...(run.config ?? [])];
  if (run.protocol !== undefined) config.push([`protocol.${run.protocol}.allow`, "always"]);
  const folder = git.program.includes("/") ? `${dirname(git.program)}:` : "";
  return {
    PATH: `${folder}${SEARCH_PATH}`,
    HOME: git.home,
    XDG_CONFIG_HOME: git.home,
    LC_ALL: "C",
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_CONFIG_SYSTEM: "/dev/null",
    GIT_CONFIG_GLOBAL: "/dev/null",
    GIT_ATTR_NOSYSTEM: "1",
    GIT_TERMINAL_PROMPT: "0",
    GIT_NO_REPLACE_OBJECTS: "1",
    GIT_NO_LAZY_FETCH: "1",
    GIT_SSH_COMMAND: "false",
    GIT_ALLOW_PROTOCOL: run.protocol ?? "none",
    GIT_PROTOCOL_FROM_USER: "0",
    GIT_CONFIG_COUNT: String(config.length),
    ...Object.fromEntries(
      config.flatMap(([key, value], index) => [
        [`GIT_CONFIG_KEY_${index}`, key],
        [`GIT_CONFIG_VALUE_${index}`, value],
      ]),
    ),
  };
};

/** A shell sets the limits and becomes Git; a limit that the system does not know is left out. */
const LIMIT_AND_RUN = 'ulimit -f "$1" 2>/dev/null; ulimit -v "$2" 2>/dev/null; shift 2; exec "$@"';

const gitMissing = (cause?: unknown): AppError =>
  new AppError({
    code: "git_missing",
    kind: "operational",
    message: "The program git was not found. Install it (Debian: apt-get install git), or name it by GIT_PROGRAM.",
    publicMessage: "This installation has no git program, so repositories cannot be synced. Tell its operator.",
    cause,
  });

/** Ends Git and every program it has started. */
const killGroup = (pid: number | undefined): void => {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // The whole group has ended by itself.
  }
};

/** The shell's exit code for a program that is not there. */
const NOT_FOUND_CODE = 127;

/**
 * Runs Git once, hardened: own environment, process group, time, output, file size and memory limited. Gives what it
 * said, also when it failed. Throws `git_missing`.
 */
export const runGit = (git: GitProgram, run: GitRun): Promise<GitOutcome> =>
  new Promise((resolve, reject) => {
    const blocks = String(Math.ceil(git.maxFileBytes / FILE_BLOCK_BYTES));
    const child = spawn(
      "/bin/sh",
      ["-c", LIMIT_AND_RUN, "sh", blocks, String(MAX_MEMORY_KB), git.program, ...run.args],
      { cwd: git.home, env: environmentOf(git, run), stdio: ["pipe", "pipe", "pipe"], detached: true },
    );
    const chunks: Buffer[] = [];
    let bytes = 0;
    let stderr = "";
    let end: GitOutcome["end"] = "ended";
    const stop = (why: GitOutcome["end"]): void => {
      if (end === "ended") end = why;
      killGroup(child.pid);
    };
    const timer = setTimeout(() => stop("late"), run.timeoutMs);
    const abort = (): void => stop("aborted");
    run.signal?.addEventListener("abort", abort, { once: true });
    if (run.signal?.aborted) abort();
    const settle = (): void => {
      clearTimeout(timer);
      run.signal?.removeEventListener("abort", abort);
    };

    child.stdout.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes <= run.maxOutputBytes) chunks.push(chunk);
      else stop("full");
    });
    child.stderr.on("data", (chunk: Buffer) => {
      stderr = (stderr + chunk.toString("utf8")).slice(-MAX_STDERR_CHARS);
    });
    child.on("error", (cause) => {
      settle();
      reject(gitMissing(cause));
    });
    child.on("close", (code) => {
      settle();
      if (code === NOT_FOUND_CODE && end === "ended") reject(gitMissing());
      else resolve({ end, code, stdout: Buffer.concat(chunks), stderr });
    });
    // Git that ends before it has read everything is told by its exit code.
    child.stdin.on("error", () => undefined);
    child.stdin.end(run.input ?? "");
  });
