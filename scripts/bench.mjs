import { runMain } from "./run-main.mjs";

await runMain("bench/src/main.ts");
