import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { Check, Finding } from "./check.ts";

const TIMEOUT_MS = 5_000;
const NODE_MAJOR = 24;

const versionOf = async (program: string): Promise<string | undefined> => {
  try {
    const { stdout } = await promisify(execFile)(program, ["--version"], { timeout: TIMEOUT_MS });
    return /\d+\.\d+(?:\.\d+)?/.exec(stdout)?.[0] ?? stdout.trim();
  } catch {
    // Not installed, or not runnable: the same for us.
    return undefined;
  }
};

export const nodeCheck: Check = {
  name: "Node",
  run: async (): Promise<Finding> => {
    const message = `Node ${process.versions.node}`;
    if (Number(process.versions.node.split(".")[0]) >= NODE_MAJOR) return { state: "ok", message };
    return { state: "failed", message, hint: "Run ./shaman, which finds the Node of this checkout." };
  },
};

export const gitCheck: Check = {
  name: "Git",
  run: async (): Promise<Finding> => {
    const version = await versionOf("git");
    if (version !== undefined) return { state: "ok", message: `git ${version}` };
    return { state: "failed", message: "git is not installed", hint: "Install git: the worker reads agents with it." };
  },
};

export const sandboxCheck: Check = {
  name: "Sandbox",
  run: async (): Promise<Finding> => {
    const version = await versionOf("bwrap");
    if (version !== undefined) return { state: "ok", message: `bubblewrap ${version}` };
    const hint = "Install bubblewrap where agents shall use MCP servers over stdio; all else works without.";
    return { state: "warning", message: "bubblewrap is not installed", hint };
  },
};
