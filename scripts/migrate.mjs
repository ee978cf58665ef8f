import { runMain } from "./run-main.mjs";

await runMain("local/src/migrate.ts");
