import { createCli, ROOT } from "./cli.ts";
import { readCliConfig, variable } from "./config.ts";
import { runProgram } from "./program.ts";

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

const config = readCliConfig();
if (config.ok) {
  const cli = createCli({ io, config: config.value, variable, root: ROOT });
  process.exitCode = await runProgram(cli, process.argv.slice(2));
} else {
  for (const problem of config.error) io.err(`shaman: ${problem}\n`);
  process.exitCode = 1;
}
