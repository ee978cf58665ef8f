import { readLeanEnvironment } from "./environment.ts";
import { migrateQueue } from "./queue.ts";
import { migrateTasks } from "./tasks.ts";

/** Prepares the lean path's database; run once before its processes. */
const { databaseUrl } = readLeanEnvironment(process.env);
await migrateTasks(databaseUrl);
await migrateQueue(databaseUrl);
console.log("ready migrate");
