import { spawn } from "node:child_process";
import { constants } from "node:os";
import { join } from "node:path";
import { bootstrap, root } from "./bootstrap.mjs";

const SIGNALS = /** @type {const} */ (["SIGINT", "SIGTERM", "SIGHUP"]);

/** Calls back when npm, which started this script, was killed without passing anything on. */
const whenNpmIsGone = (/** @type {() => void} */ stop) => {
  if (process.env.npm_lifecycle_event === undefined) return;
  const { ppid } = process;
  setInterval(() => {
    if (process.ppid !== ppid) stop();
  }, 500).unref();
};

/**
 * Installs what is missing, then runs one of our programs under Node 24 and ends as it ends. A signal is passed on as a
 * message too: a Ctrl-C reaches the whole group, a `kill` only this process, and the program shall stop once in both.
 * @param {string} main path of the program, relative to the root
 * @param {{ args?: readonly string[], cwd?: string }} [options]
 */
export const runMain = async (main, { args = process.argv.slice(2), cwd = root } = {}) => {
  const node = await bootstrap();
  const child = spawn(node, [join(root, main), ...args], {
    cwd,
    stdio: ["inherit", "inherit", "inherit", "ipc"],
    // What was compiled once is not compiled again by this program, or by those that it starts.
    env: { NODE_COMPILE_CACHE: join(root, ".shaman", "compile-cache"), ...process.env },
  });
  for (const signal of SIGNALS) {
    process.on(signal, () => {
      if (child.connected) child.send({ stop: signal });
    });
  }
  whenNpmIsGone(() => child.connected && child.send({ stop: "SIGHUP" }));
  child.once("error", (error) => {
    console.error(`${main} could not be started: ${error.message}`);
    process.exit(1);
  });
  child.once("exit", (code, signal) => {
    process.exit(code ?? 128 + (signal === null ? 0 : constants.signals[signal]));
  });
};
