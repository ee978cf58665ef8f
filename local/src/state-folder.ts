import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { userError } from "@shaman/kernel";
import { commandOfProcess, isProcessAlive } from "@shaman/postgres-embedded";

/** The folder of one running copy, held until `release`. */
export type StateFolder = { readonly folder: string; readonly release: () => void };

type Holder = { readonly pid: number; readonly port: number };

const LAUNCHER = join("local", "src", "main.ts");

const readHolder = (file: string): Holder | undefined => {
  try {
    const [pid = 0, port = 0] = readFileSync(file, "utf8").split(" ").map(Number);
    return isProcessAlive(pid) && commandOfProcess(pid).includes(LAUNCHER) ? { pid, port } : undefined;
  } catch {
    return undefined;
  }
};

/** Takes the folder, unless a living launcher has it: then tells which. */
const take = (folder: string, port: number): StateFolder | Holder => {
  mkdirSync(folder, { recursive: true });
  const file = join(folder, "launcher.pid");
  const holder = readHolder(file);
  if (holder !== undefined) return holder;
  rmSync(file, { force: true });
  // `wx` lets only one of two launchers through that start at the same moment.
  writeFileSync(file, `${process.pid} ${port}`, { flag: "wx", mode: 0o600 });
  return { folder, release: () => rmSync(file, { force: true }) };
};

/** The launchers that run on state folders of this checkout. */
export const findLauncher = (folder: string): number | undefined => readHolder(join(folder, "launcher.pid"))?.pid;

/**
 * The folder for data, keys and local.json: `.shaman`, or `.shaman/port-N` while another copy of this checkout runs on
 * other ports. Throws when a copy runs on the same ports already.
 */
export const takeStateFolder = (shamanFolder: string, port: number): StateFolder => {
  const refuse = (holder: Holder): never => {
    throw userError(
      "already_running",
      `This checkout already runs on port ${holder.port} (process ${holder.pid}): stop it with Ctrl-C there, ` +
        "or start a second copy with other ports: `npm start -- --port 6000`.",
    );
  };
  const first = take(shamanFolder, port);
  if ("folder" in first) return first;
  if (first.port === port) return refuse(first);
  const second = take(join(shamanFolder, `port-${port}`), port);
  return "folder" in second ? second : refuse(second);
};
