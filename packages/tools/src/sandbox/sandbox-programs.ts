import { execFile } from "node:child_process";
import { access, constants, realpath } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

import { err, ok, type Result } from "@shaman/kernel";

import { sandboxError } from "./sandbox-error.ts";

const run = promisify(execFile);

/** System folders alone: a PATH that somebody changed must not choose what isolates. */
const FOLDERS = ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin"];
const PROBE_TIMEOUT_MS = 5_000;
const OLDEST = [0, 8] as const;

export type SandboxPrograms = { readonly bwrap: string; readonly shell: string };

/** The file that a program of this machine is, found in the system's folders and with links followed. */
export const findProgram = async (name: string): Promise<string | undefined> => {
  for (const folder of FOLDERS) {
    const path = join(folder, name);
    const found = await access(path, constants.X_OK).then(
      () => realpath(path),
      () => undefined,
    );
    if (found !== undefined) return found;
  }
  return undefined;
};

const missingBubblewrap =
  "Stdio MCP servers run inside bubblewrap only, and it is not installed on this machine: install it (Debian and Ubuntu: " +
  "apt-get install bubblewrap), or register the server over HTTP.";

/** Finds bubblewrap of a version that knows all we ask of it, and the shell that sets limits. */
export const findSandboxPrograms = async (
  find: (name: string) => Promise<string | undefined> = findProgram,
): Promise<Result<SandboxPrograms>> => {
  if (process.platform !== "linux") {
    return err(
      sandboxError("sandbox_unavailable", "Stdio MCP servers run inside bubblewrap only, which is for Linux."),
    );
  }
  const [bwrap, shell] = await Promise.all([find("bwrap"), find("sh")]);
  if (bwrap === undefined) return err(sandboxError("sandbox_unavailable", missingBubblewrap));
  if (shell === undefined) {
    return err(sandboxError("sandbox_unavailable", "A sandbox needs the program sh, and it is not on this machine."));
  }
  const { stdout } = await run(bwrap, ["--version"], { timeout: PROBE_TIMEOUT_MS, env: {} }).catch((cause: unknown) => {
    throw sandboxError("sandbox_unavailable", `${bwrap} cannot be started.`, cause);
  });
  const [major = 0, minor = 0] = /(\d+)\.(\d+)/.exec(stdout)?.slice(1).map(Number) ?? [];
  if (major > OLDEST[0] || minor >= OLDEST[1]) return ok({ bwrap, shell });
  return err(
    sandboxError(
      "sandbox_unavailable",
      `bubblewrap ${major}.${minor} is too old: ${OLDEST.join(".")} or newer is needed.`,
    ),
  );
};
