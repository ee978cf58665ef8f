import { internalJwtConfig } from "@shaman/access";
import { agentsConfig } from "@shaman/agents";
import { defineConfig, readConfig } from "@shaman/config";
import { databaseConfig } from "@shaman/db";
import { redisConfig } from "@shaman/queue";
import { secretsConfig } from "@shaman/secrets";
import { outboundConfig } from "@shaman/outbound";
import { storageConfig } from "@shaman/storage";
import { logConfig } from "@shaman/telemetry";
import { z } from "zod";

const count = (fallback: number, max: number) =>
  z.coerce.number("must be a number").int().min(1).max(max).default(fallback);
const milliseconds = (fallback: number) =>
  z.coerce.number("must be a number").int().min(0).max(3_600_000).default(fallback);

const workerConfig = defineConfig(
  {
    INTERNAL_URL: {
      schema: z.url("must be a URL such as http://127.0.0.1:5001").default("http://127.0.0.1:5001"),
      about: "where worker and internal server find the internal server",
    },
    WORKER_HEALTH_PORT: {
      schema: z.coerce.number().int().min(0).max(65_535).default(5003),
      about: "port of the worker's health checks",
    },
    LISTEN_HOST: {
      schema: z.string().min(1).default("127.0.0.1"),
      about: "address to listen on; 0.0.0.0 in a container, and never the internal server on a public one",
    },
    WORKER_CONCURRENCY: { schema: count(64, 1_000), about: "runs this worker executes at once" },
    RUNS_IN_FLIGHT_PER_ORGANIZATION: {
      schema: count(50, 10_000),
      about:
        "runs of one organization at once, over all workers; until they have heard of each other, a second later, each may begin as many",
    },
    LEASE_MS: { schema: milliseconds(30_000), about: "how long a run's lease lasts without renewal" },
    LEASE_RENEW_MS: { schema: milliseconds(10_000), about: "how often leases are renewed" },
    SWEEP_MS: { schema: milliseconds(5_000), about: "how often stranded runs are looked for" },
    SWEEP_AFTER_MS: {
      schema: milliseconds(60_000),
      about: "how long a run may wait in the queue before the sweep wakes it again",
    },
    RETENTION_MS: {
      schema: milliseconds(60_000),
      about: "how often artifacts that are older than their organization keeps them are looked for",
    },
    TEXT_COALESCE_MS: {
      schema: milliseconds(50),
      about: "how long streamed text may wait for more; 0 keeps every piece an event",
    },
    TEXT_COALESCE_BYTES: { schema: count(8_192, 1_000_000), about: "how much streamed text waits at most" },
    SHUTDOWN_GRACE_MS: {
      schema: milliseconds(10_000),
      about: "how long a stopping process lets what is under way finish",
    },
  },
  (env) => ({
    internalUrl: env.INTERNAL_URL,
    healthPort: env.WORKER_HEALTH_PORT,
    listenHost: env.LISTEN_HOST,
    concurrency: env.WORKER_CONCURRENCY,
    capPerOrganization: env.RUNS_IN_FLIGHT_PER_ORGANIZATION,
    leaseMs: env.LEASE_MS,
    leaseRenewMs: env.LEASE_RENEW_MS,
    sweepMs: env.SWEEP_MS,
    sweepAfterMs: env.SWEEP_AFTER_MS,
    retentionMs: env.RETENTION_MS,
    coalesceMs: env.TEXT_COALESCE_MS,
    coalesceBytes: env.TEXT_COALESCE_BYTES,
    shutdownGraceMs: env.SHUTDOWN_GRACE_MS,
  }),
);

/** Everything the worker reads from its environment. */
export const readers = {
  worker: workerConfig,
  agents: agentsConfig,
  database: databaseConfig,
  redis: redisConfig,
  jwt: internalJwtConfig,
  secrets: secretsConfig,
  outbound: outboundConfig,
  storage: storageConfig,
  log: logConfig,
};

export const readWorkerConfig = () => readConfig(readers, process.env);
export type WorkerConfig = Extract<ReturnType<typeof readWorkerConfig>, { ok: true }>["value"];
