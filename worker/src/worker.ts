import { hostname } from "node:os";
import { createInternalCaller, openAgentConnections } from "@shaman/a2a-wire";
import { createTokenMinter, deleteExpiredJtis } from "@shaman/access";
import { createAgentResolver, createGitSource } from "@shaman/agents";
import { sealAudit } from "@shaman/audit";
import { createDb } from "@shaman/db";
import { createExternalDirectory } from "@shaman/external";
import { newId, systemClock } from "@shaman/kernel";
import { createOutbound } from "@shaman/outbound";
import {
  deleteOldChanges,
  createPostgresFanOut,
  createPostgresJobQueue,
  createRedisFanOut,
  createRedisJobQueue,
  type HeardWakeUp,
} from "@shaman/queue";
import {
  countLeasedElsewhere,
  endStrays,
  leaseLost,
  listWaitingOrganizations,
  RUN_EXECUTE,
  RUN_RETRY,
  runExecutePayload,
  runRetryPayload,
  sweepRetries,
  sweepRuns,
} from "@shaman/runs";
import { parseScript } from "@shaman/scripts";
import { openObjectStore } from "@shaman/storage";
import { createOrganizationDirectory, deleteExpiredModelResponses } from "@shaman/tenancy";
import { createLogger, createMetrics, type HealthCheck, type Logger, type Metrics } from "@shaman/telemetry";
import type { WorkerConfig } from "./config.ts";
import { takeAssignedRuns } from "./assigned-runs.ts";
import { createDispatcher } from "./dispatcher.ts";
import { every } from "./every.ts";
import { cancelOutsideTasks } from "./handlers/cancel-outside.ts";
import { executeRun, StopRun, workOn } from "./handlers/execute-run.ts";
import { retryRunJob } from "./handlers/retry-run.ts";
import { enqueueDueRepositories, REPOSITORY_SYNC, runRepositorySync } from "./handlers/sync-repository.ts";
import { keepRetention } from "./handlers/keep-retention.ts";
import { createHeldLeases } from "./held-leases.ts";
import { watchCommands } from "./watch-commands.ts";

export type Worker = {
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly checks: readonly HealthCheck[];
  /** Takes nothing new, lets short runs finish within the grace time, hands the others over, closes everything. */
  readonly stop: () => Promise<void>;
};

const WAITING_POLL_MS = 1_000;
const OUTSIDE_CANCEL_POLL_MS = 1_000;
const DUE_POLL_MS = 500;
const SEAL_MS = 5_000;
const JTI_CLEANUP_MS = 60_000;
const CHANGES_CLEANUP_MS = 10 * 60_000;
const MODEL_CACHE_CLEANUP_MS = 60_000;
const HANDOVER_MS = 5_000;

/** Starts a worker: everything it needs is made here and handed on. */
export const startWorker = async (config: WorkerConfig): Promise<Worker> => {
  const name = `worker-${hostname()}-${process.pid}`;
  const worker = `${name}-${newId("req").slice(-8)}`;
  const log = createLogger({ process: "worker", level: config.log.level });
  const metrics = createMetrics();
  const onError = (error: unknown): void => log.error("connection_failed", error);
  const underWay = (orgId: string): number => jobs.running(orgId);
  const db = createDb({ ...config.database, name, onError, keepFull: true, underWay });
  await db.check();
  const { url } = config.database;
  const queueOptions = { name, onError, takes: true };
  const queue =
    config.redis === null
      ? createPostgresJobQueue({ ...queueOptions, url, poolSize: config.database.poolSize, keepFull: true })
      : createRedisJobQueue({ ...queueOptions, url: config.redis.url });
  const fanOut =
    config.redis === null
      ? createPostgresFanOut({ name, onError, db, url })
      : createRedisFanOut({ name, onError, url: config.redis.url });
  // A run holds a connection as long as it takes; one that waited for another's would have an old token.
  const connections = openAgentConnections({ connections: Math.max(256, config.worker.concurrency) });
  const minter = createTokenMinter({ keys: config.jwt.keys, clock: systemClock });
  const callInternal = createInternalCaller({
    minter,
    connections,
    origin: config.worker.internalUrl,
    clock: systemClock,
  });
  const store = openObjectStore(config.storage);
  const held = createHeldLeases({
    db,
    worker,
    leaseMs: config.worker.leaseMs,
    renewMs: config.worker.leaseRenewMs,
    lost: leaseLost,
    log,
  });
  const runDeps = {
    db,
    queue,
    fanOut,
    held,
    worker,
    log,
    callInternal,
    leaseMs: config.worker.leaseMs,
    recorder: { coalesceMs: config.worker.coalesceMs, coalesceBytes: config.worker.coalesceBytes },
    store,
  };

  const stopping = new AbortController();
  const { cacheDir, gitFileRoot, gitProgram, maximumLimits } = config.agents;
  const outbound = createOutbound({ ...config.outbound, ...(gitFileRoot !== undefined && { gitFileRoot }) });
  const git = createGitSource({ cacheDir, gitProgram, checkGitUrl: outbound.checkGitUrl });
  const syncDeps = {
    db,
    git,
    secretKeys: config.secrets,
    parseScript,
    maximumLimits,
    fanOut,
    log,
    signal: stopping.signal,
  };

  const retryDeps = {
    db,
    queue,
    log,
    agents: createAgentResolver({ db, clock: systemClock }),
    // Found by id only, so no host's domain matters here.
    organizations: createOrganizationDirectory({ db, clock: systemClock, baseDomain: "internal" }),
  };

  const execute = async (job: HeardWakeUp): Promise<void> => {
    switch (job.name) {
      case RUN_EXECUTE:
        return executeRun(runDeps, { orgId: job.orgId, runId: runExecutePayload.parse(job.data).runId });
      case RUN_RETRY:
        return retryRunJob(retryDeps, { orgId: job.orgId, commandId: runRetryPayload.parse(job.data).commandId });
      case REPOSITORY_SYNC:
        return runRepositorySync(syncDeps, job);
      default:
        log.warn("unknown_job", { name: job.name });
    }
  };

  let elsewhere: ReadonlyMap<string, number> = new Map();
  const jobs = createDispatcher({
    queue,
    slots: config.worker.concurrency,
    capPerOrganization: config.worker.capPerOrganization,
    heldElsewhere: (orgId) => elsewhere.get(orgId) ?? 0,
    execute,
    onError: (error) => log.error("job_failed", error),
  });
  metrics.gauge("shaman_worker_slots_used", "Runs this worker is working on", () => jobs.running());

  const periodic = { log, signal: stopping.signal };
  const lookForWaiting = async (): Promise<void> => {
    elsewhere = await countLeasedElsewhere(db, worker);
    for (const orgId of await listWaitingOrganizations(db)) jobs.nudge(orgId);
  };
  const sweep = async (): Promise<void> => {
    const sweepDeps = { db, queue, nudge: jobs.nudge };
    const found = await sweepRuns(sweepDeps, { afterMs: config.worker.sweepAfterMs });
    await sweepRetries(sweepDeps, { afterMs: config.worker.sweepAfterMs });
    if (found > 0) log.info("runs_swept", { found });
    const ended = await endStrays({ db });
    if (ended > 0) log.info("strays_ended", { runs: ended });
  };
  await queue.onAdded(jobs.nudge);
  const commands = await watchCommands({ db, fanOut, held, log });
  await lookForWaiting();
  const assigned = await takeAssignedRuns({
    db,
    fanOut,
    queue,
    jobs,
    worker,
    leaseMs: config.worker.leaseMs,
    workOn: (run, lease) => workOn(runDeps, run, lease),
    withdraw: (runId) => held.find(runId)?.stop(new StopRun("withdrawn")),
    onError: (error) => log.error("run_not_passed_on", error),
  });
  every("repositories", DUE_POLL_MS, { ...periodic, work: () => enqueueDueRepositories({ db, queue }) });
  every("waiting", WAITING_POLL_MS, { ...periodic, work: lookForWaiting });
  const directory = createExternalDirectory({ db, clock: systemClock, secretKeys: config.secrets, outbound });
  const cancels = (): Promise<void> => cancelOutsideTasks({ db, directory, outbound, log }, stopping.signal);
  every("outside-cancels", OUTSIDE_CANCEL_POLL_MS, { ...periodic, work: cancels });
  every("sweep", config.worker.sweepMs, { ...periodic, work: sweep });
  const retention = { ...periodic, work: () => keepRetention({ db, store }, { signal: stopping.signal }) };
  every("retention", config.worker.retentionMs, retention);
  every("seal", SEAL_MS, { ...periodic, work: () => sealAudit({ db }, { signal: stopping.signal }) });
  every("jti", JTI_CLEANUP_MS, { ...periodic, work: () => deleteExpiredJtis({ db, clock: systemClock }) });
  every("changes", CHANGES_CLEANUP_MS, { ...periodic, work: () => deleteOldChanges({ db }) });
  const forget = (): Promise<unknown> => deleteExpiredModelResponses({ db }, stopping.signal);
  every("model-cache", MODEL_CACHE_CLEANUP_MS, { ...periodic, work: forget });

  return {
    log,
    metrics,
    checks: [
      { name: "database", check: async () => void (await db.plain({ text: "SELECT 1" })) },
      { name: "storage", check: store.check, optional: true },
    ],
    stop: async () => {
      stopping.abort();
      const drained = Promise.all([jobs.drain(), assigned.close()]);
      await withinMs(config.worker.shutdownGraceMs, drained);
      for (const run of held.list()) run.stop(new StopRun("handover"));
      await withinMs(HANDOVER_MS, drained);
      held.close();
      commands.close();
      await Promise.allSettled([queue.close(), fanOut.close(), connections.destroy(), outbound.close(), store.close()]);
      await db.close();
    },
  };
};

const withinMs = async (ms: number, done: Promise<unknown>): Promise<void> => {
  const timeout = Promise.withResolvers<void>();
  const timer = setTimeout(timeout.resolve, ms);
  await Promise.race([done, timeout.promise]);
  clearTimeout(timer);
};
