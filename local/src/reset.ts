import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline/promises";
import { parseArgs } from "node:util";
import { toAppError } from "@shaman/kernel";
import { stopLeftoverPostgres } from "@shaman/postgres-embedded";
import { stopLeftovers } from "./leftovers.ts";
import { readLocalFile } from "./local-file.ts";
import { findLauncher } from "./state-folder.ts";

const WORD = "reset";
/** Installed tools and the marks of what is installed are no state of ours. */
const KEPT = ["tools", "compile-cache", "installed", "bootstrap.lock"];
const OUTSIDE = "/var/lib/shaman/";

const root = dirname(dirname(import.meta.dirname));
const shamanFolder = join(root, ".shaman");

/** The folders of all copies that ran in this checkout: `.shaman` and `.shaman/port-N`. */
const stateFolders = (): readonly string[] => {
  if (!existsSync(shamanFolder)) return [];
  const copies = readdirSync(shamanFolder).filter((name) => /^port-\d+$/.test(name));
  return [shamanFolder, ...copies.map((name) => join(shamanFolder, name))];
};

/** Folders elsewhere that hold the files of a PostgreSQL that root started below a closed folder. */
const outsideFolders = (folder: string): readonly string[] => {
  const file = join(folder, "postgres", "outside");
  const lines = existsSync(file) ? readFileSync(file, "utf8").split("\n") : [];
  return lines.filter((line) => line.startsWith(OUTSIDE) && !line.includes(".."));
};

const isConfirmed = async (yes: boolean): Promise<boolean> => {
  if (yes) return true;
  console.log(`This wipes the local database, keys and repositories in ${shamanFolder}; installed packages stay.`);
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  const ended = new Promise<string>((resolve) => terminal.once("close", () => resolve("")));
  const answer = await Promise.race([terminal.question(`Type ${WORD} to go on: `), ended]);
  terminal.close();
  return answer.trim() === WORD;
};

const wipe = async (): Promise<void> => {
  const log = (line: string): void => console.log(line);
  for (const folder of stateFolders()) {
    await stopLeftovers(readLocalFile(folder)?.processes ?? [], { root, log });
    await stopLeftoverPostgres(join(folder, "postgres"));
    for (const outside of outsideFolders(folder)) rmSync(outside, { recursive: true, force: true });
  }
  for (const name of existsSync(shamanFolder) ? readdirSync(shamanFolder) : []) {
    if (!KEPT.includes(name)) rmSync(join(shamanFolder, name), { recursive: true, force: true });
  }
};

const main = async (): Promise<number> => {
  const { values } = parseArgs({ options: { yes: { type: "boolean", default: false } } });
  const running = stateFolders().flatMap((folder) => findLauncher(folder) ?? []);
  if (running.length > 0) {
    console.error(
      `Shaman is running in this checkout (process ${running.join(", ")}): stop it first with Ctrl-C there.`,
    );
    return 1;
  }
  if (!(await isConfirmed(values.yes))) {
    console.error("Nothing was wiped.");
    return 1;
  }
  await wipe();
  console.log("The local state was wiped. `npm start` begins anew.");
  return 0;
};

process.exitCode = await main().catch((error: unknown) => {
  console.error(toAppError(error).message);
  return 1;
});
// The channel to the script that started us would keep this process alive.
if (process.connected) process.disconnect();
