import { AppError } from "@shaman/kernel";
import type { Cli } from "./cli.ts";

/** What leaving a command for a run needs; a run that could not be queued is found by the sweep, so only said. */
export const commandDeps = (cli: Cli) => ({
  db: cli.db(),
  queue: cli.queue(),
  fanOut: cli.fanOut(),
  origin: cli.origin,
  onEnqueueFailed: (error: Error): void => {
    const { message } = error instanceof AppError ? error : { message: error.message };
    cli.io.err(`shaman: the queue is away (${message}); a worker finds the command within two minutes.\n`);
  },
});
