import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

export type RunningProcess = { readonly name: string; readonly pid: number; readonly stop: () => Promise<void> };

export type StartProcess = {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
};

const STOP_TIMEOUT_MS = 10_000;
const READY_TIMEOUT_MS = 60_000;
const KEPT_LINES = 40;

// Whatever ends the bench, no process that it started stays behind.
const alive = new Set<ChildProcess>();
const killAlive = (): void => alive.forEach((child) => child.kill("SIGKILL"));

const stopChild = async (child: ChildProcess): Promise<void> => {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill("SIGTERM");
  const killer = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
  await exited;
  clearTimeout(killer);
};

/**
 * Starts a program and waits until `isReady` says so; it is asked after each line and ten times a second. Rejects with
 * the last lines when the program ends first.
 */
export const startProcess = async (
  options: StartProcess,
  isReady: (lines: readonly string[]) => boolean | Promise<boolean>,
): Promise<RunningProcess & { readonly lines: readonly string[] }> => {
  const { PATH = "", HOME = "" } = process.env;
  const env = { PATH, HOME, NODE_ENV: "production", ...options.env };
  const child = spawn(options.command, options.args, { env, stdio: ["ignore", "pipe", "pipe"] });
  if (alive.size === 0) process.once("exit", killAlive);
  alive.add(child);
  child.once("exit", () => {
    alive.delete(child);
    if (alive.size === 0) process.off("exit", killAlive);
  });
  const lines: string[] = [];
  const keep = (line: string): void => {
    lines.push(line);
    if (lines.length > KEPT_LINES) lines.shift();
  };
  createInterface(child.stdout).on("line", keep);
  createInterface(child.stderr).on("line", keep);
  const failed = once(child, "error").then(([error]) => keep(String(error)));
  failed.catch(() => {});
  const until = Date.now() + READY_TIMEOUT_MS;
  while (!(await isReady(lines))) {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined || Date.now() > until) {
      if (child.pid !== undefined) await stopChild(child);
      throw new Error(`${options.name} did not become ready:\n${lines.join("\n")}`);
    }
    await sleep(20);
  }
  child.once("exit", (code, signal) => {
    if (signal === "SIGTERM" || code === 0) return;
    console.error(`${options.name} ended (${code ?? signal}):\n${lines.join("\n")}`);
  });
  return { name: options.name, pid: child.pid ?? 0, lines, stop: () => stopChild(child) };
};

/** Runs one of our TypeScript files under the Node that runs the bench. */
export const nodeProcess = (
  name: string,
  file: URL,
  options: { readonly args?: readonly string[]; readonly env: Readonly<Record<string, string>> },
): StartProcess => ({
  name,
  command: process.execPath,
  args: ["--disable-warning=ExperimentalWarning", file.pathname, ...(options.args ?? [])],
  env: options.env,
});

const SERVER_NODE = new URL("../../scripts/server-node", import.meta.url);

/** Starts one of the product's servers as `npm start` does, under the Node that runs the bench. */
export const serverProcess = (
  name: string,
  file: URL,
  options: { readonly args?: readonly string[]; readonly env: Readonly<Record<string, string>> },
): StartProcess => ({
  name,
  command: SERVER_NODE.pathname,
  args: [file.pathname, ...(options.args ?? [])],
  env: { ...options.env, SHAMAN_NODE: process.execPath },
});

/** A port of loopback that was free a moment ago. */
export const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
};
