import { spawn } from "node:child_process";

/** What a program wrote, and how it ended. */
export type Ended = { readonly code: number | null; readonly out: string; readonly err: string };

export type ProgramOptions = {
  /** Besides PATH and HOME, which are this process's own. */
  readonly env?: Record<string, string>;
  readonly input?: string;
  readonly cwd?: string;
  /** Called with all that it wrote to standard error so far, each time it writes. */
  readonly onErr?: (soFar: string) => void;
};

/** Runs a program to its end. */
export const runProgram = (program: string, args: readonly string[], options: ProgramOptions = {}): Promise<Ended> =>
  new Promise((resolve, reject) => {
    const child = spawn(program, [...args], {
      cwd: options.cwd,
      env: { PATH: process.env["PATH"], HOME: process.env["HOME"], ...options.env },
    });
    let [out, err] = ["", ""];
    child.stdout.on("data", (chunk) => (out += String(chunk)));
    child.stderr.on("data", (chunk) => {
      err += String(chunk);
      options.onErr?.(err);
    });
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, out, err }));
    child.stdin.end(options.input ?? "");
  });
