import { listDueRepositories, syncRepository, type SyncDeps } from "@shaman/agents";
import { CHANNELS, type FanOut, type JobQueue, type HeardWakeUp } from "@shaman/queue";
import type { Logger } from "@shaman/telemetry";
import { z } from "zod";

/** The job that syncs one repository: asked for on demand, by schedule, or by a host's webhook. */
export const REPOSITORY_SYNC = "repository.sync";

const payload = z.object({ repositoryId: z.string() });

export type SyncJobDeps = SyncDeps & { readonly fanOut: FanOut; readonly log: Logger; readonly signal: AbortSignal };

const DUE_AT_ONCE = 100;
const PRIORITY = 2;

/** Puts a job into its organization's queue for each repository that is due. Twice the same job is one. */
export const enqueueDueRepositories = async (deps: {
  readonly db: SyncDeps["db"];
  readonly queue: JobQueue;
}): Promise<void> => {
  for (const { orgId, repositoryId } of await listDueRepositories(deps, { limit: DUE_AT_ONCE })) {
    const data = { repositoryId };
    await deps.queue.addAgain({
      orgId,
      jobId: `sync-${repositoryId}`,
      name: REPOSITORY_SYNC,
      data,
      priority: PRIORITY,
    });
  }
};

/** Syncs the repository of a job, and tells the servers when another commit became live. */
export const runRepositorySync = async (deps: SyncJobDeps, job: HeardWakeUp): Promise<void> => {
  const { orgId } = job;
  const { repositoryId } = payload.parse(job.data);
  const report = await syncRepository(deps, { orgId, repositoryId, signal: deps.signal });
  if (!report.ok) {
    deps.log.warn("sync_failed", { repositoryId, code: report.error.code, message: report.error.message });
    return;
  }
  const { outcome, commit } = report.value;
  if (outcome === "unchanged") return;
  deps.log.info("repository_synced", { repositoryId, outcome, commit });
  if (outcome === "switched") deps.fanOut.publish(CHANNELS.cache, `agents:${orgId}:${repositoryId}`);
};
