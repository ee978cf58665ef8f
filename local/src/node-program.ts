import { spawn, type ChildProcess } from "node:child_process";
import { get } from "node:http";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { AppError } from "@shaman/kernel";
import type { Running, Service } from "./supervisor.ts";

export type NodeProgram = {
  readonly name: string;
  /** Absolute path of the file to run with this Node. */
  readonly main: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Answers 200 as soon as the program can serve. */
  readonly readyUrl: string;
  readonly log: (name: string, line: string) => void;
};

/** Says how much memory a server's Node may keep, however it is started. */
const SERVER_NODE = join(import.meta.dirname, "..", "..", "scripts", "server-node");
const READY_TIMEOUT_MS = 60_000;
const REQUEST_TIMEOUT_MS = 2_000;
const POLL_MS = 40;
/** Longer than a graceful stop of any of our programs takes; after it the process is killed. */
const STOP_TIMEOUT_MS = 12_000;

const passOn = (child: ChildProcess, { name, log }: NodeProgram): void => {
  for (const stream of [child.stdout, child.stderr]) {
    if (stream !== null) createInterface({ input: stream }).on("line", (line) => log(name, line));
  }
};

const stopChild = async (child: ChildProcess, exited: Promise<unknown>): Promise<void> => {
  const timer = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
  child.kill("SIGTERM");
  await exited;
  clearTimeout(timer);
};

/** Starts the program in a process group of its own, so that a Ctrl-C in the terminal reaches only us. */
const spawnProgram = (program: NodeProgram): Running => {
  const child = spawn(SERVER_NODE, [program.main, ...program.args], {
    detached: true,
    env: { ...program.env, SHAMAN_NODE: process.execPath },
    stdio: ["ignore", "pipe", "pipe"],
  });
  passOn(child, program);
  const exited = new Promise<string>((resolve) => {
    child.once("error", (error) => resolve(`could not be started (${error.message})`));
    child.once("exit", (code, signal) =>
      resolve(signal === null ? `ended with status ${code}` : `was ended by signal ${signal}`),
    );
  });
  return { pid: child.pid ?? 0, exited, stop: () => stopChild(child, exited) };
};

/** Not by `fetch`, which refuses some ports that `--port` may name, 6000 among them. */
const answersReady = (url: string, signal: AbortSignal): Promise<boolean> =>
  new Promise((resolve) => {
    const asked = get(url, { signal, timeout: REQUEST_TIMEOUT_MS, agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    asked.once("timeout", () => asked.destroy());
    // Not listening yet, or not answering in time: asked again until the deadline.
    asked.once("error", () => resolve(false));
  });

/** Polls until the address answers 200. Rejects when the signal is aborted, or after a minute. */
const waitUntilReady = async (name: string, url: string, signal: AbortSignal): Promise<void> => {
  const until = Date.now() + READY_TIMEOUT_MS;
  while (!(await answersReady(url, signal))) {
    signal.throwIfAborted();
    if (Date.now() > until) {
      throw new AppError({
        code: "not_ready",
        kind: "operational",
        message: `${name} does not answer on ${url} after ${READY_TIMEOUT_MS / 1000} s; its own words are above`,
      });
    }
    await sleep(POLL_MS);
  }
};

/** One of our programs as a service for the supervisor. */
export const nodeProgram = (program: NodeProgram): Service => ({
  name: program.name,
  spawn: () => spawnProgram(program),
  ready: (signal) => waitUntilReady(program.name, program.readyUrl, signal),
});
