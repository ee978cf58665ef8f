export { TEST_ROLE_SECRET, testDatabase } from "./test-database.ts";
export type { TestDatabase } from "./test-database.ts";
