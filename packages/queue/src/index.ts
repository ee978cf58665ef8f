export { createChangeFeed, deleteOldChanges } from "./change-feed.ts";
export type { Change, ChangeFeed } from "./change-feed.ts";
export { redisConfig } from "./config.ts";
export { CHANNELS, createPostgresFanOut, createRedisFanOut } from "./fan-out.ts";
export type { Channel, FanOut } from "./fan-out.ts";
export { createPostgresJobQueue, createRedisJobQueue } from "./job-queue.ts";
export type { JobQueue, TakenWakeUp, WakeUp } from "./job-queue.ts";
export { migrateJobQueue } from "./migrate.ts";
export { assertNoEviction, openRedis } from "./redis.ts";
