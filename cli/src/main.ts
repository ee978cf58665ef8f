import { createCli, ROOT } from "./cli.ts";
import { readCliConfig, variable } from "./config.ts";
import { runProgram } from "./program.ts";

/** What a shell reports for a program that Ctrl-C ended. */
const INTERRUPTED = 130;

const io = {
  out: (text: string) => void process.stdout.write(text),
  err: (text: string) => void process.stderr.write(text),
  stdin: process.stdin,
  stderr: process.stderr,
};

// A reader that has enough, such as `head`, closes the pipe: that is no fault.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});

// The launcher passes a signal on as a message; listening to it must not keep a finished command alive.
process.on("message", () => process.exit(INTERRUPTED));
process.channel?.unref();

const config = readCliConfig();
if (config.ok) {
  const cli = createCli({ io, config: config.value, variable, root: ROOT });
  process.exitCode = await runProgram(cli, process.argv.slice(2));
} else {
  for (const problem of config.error) io.err(`shaman: ${problem}\n`);
  process.exitCode = 1;
}
