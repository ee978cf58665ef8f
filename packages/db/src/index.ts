export { databaseConfig } from "./config.ts";
export { createDb, isUniqueViolation, poolConfig } from "./db.ts";
export type { Db, Row, Rows, Statement, Tx } from "./db.ts";
export type { SharedWork } from "./together.ts";
export { toJsonb } from "./jsonb.ts";
export { createListener } from "./listen.ts";
export type { Listener } from "./listen.ts";
export { deriveRoleUrls, migrate, PROCESS_ROLES } from "./migrate.ts";
export type { ProcessRole, RoleUrls } from "./migrate.ts";
