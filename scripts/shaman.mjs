import { runMain } from "./run-main.mjs";

// Paths in the arguments are meant from where the command was typed.
await runMain("cli/src/main.ts", { cwd: process.cwd() });
