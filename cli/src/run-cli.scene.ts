import { join } from "node:path";
import { runProgram, type Ended, type ProgramOptions } from "@shaman/testkit";

const MAIN = join(import.meta.dirname, "main.ts");

/** Runs the command line to its end. */
export const runCli = (args: readonly string[], options: ProgramOptions = {}): Promise<Ended> =>
  runProgram(process.execPath, [MAIN, ...args], options);
