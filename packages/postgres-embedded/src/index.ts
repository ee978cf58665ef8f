export { startPostgres } from "./start-postgres.ts";
export type { RunningPostgres, StartPostgresOptions } from "./start-postgres.ts";
export { stopLeftoverPostgres } from "./stop-leftover-postgres.ts";
export { commandOfProcess, isProcessAlive } from "./process-table.ts";
export { startTemporaryPostgres } from "./temporary-postgres.ts";
