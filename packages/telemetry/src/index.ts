export { logConfig } from "./config.ts";
export { healthRoutes } from "./health.ts";
export type { HealthCheck } from "./health.ts";
export { createLogger } from "./logger.ts";
export type { Fields, Logger } from "./logger.ts";
export { createMetrics } from "./metrics.ts";
export type { Metrics } from "./metrics.ts";
export { continueTrace } from "./trace-context.ts";
