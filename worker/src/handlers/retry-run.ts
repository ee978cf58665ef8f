import { allowedCallDepth } from "@shaman/a2a-wire";
import type { AgentResolver } from "@shaman/agents";
import type { Db } from "@shaman/db";
import type { JobQueue } from "@shaman/queue";
import { beginAnew, findRetry, runLimitsOf, wakeUpOf } from "@shaman/runs";
import { defaultSettings, type OrganizationDirectory } from "@shaman/tenancy";
import type { Logger } from "@shaman/telemetry";

export type RetryRunDeps = {
  readonly db: Db;
  readonly queue: JobQueue;
  readonly agents: Pick<AgentResolver, "resolvePinned">;
  readonly organizations: Pick<OrganizationDirectory, "byId">;
  readonly log: Logger;
};

/**
 * Begins a failed run anew, once for each command. It takes the agent as it is live now, with its limits, since mending
 * the agent is the usual reason to retry; as it was, where that commit has it no more.
 */
export const retryRunJob = async (
  deps: RetryRunDeps,
  job: { readonly orgId: string; readonly commandId: string },
): Promise<void> => {
  const { orgId } = job;
  const failed = await findRetry(deps.db, job);
  if (failed === undefined) return;
  const { repositoryId, agent: name, liveCommit } = failed;
  const live =
    liveCommit === null
      ? undefined
      : await deps.agents.resolvePinned({ orgId, repositoryId, commit: liveCommit, name });
  const settings = (await deps.organizations.byId(orgId))?.settings ?? defaultSettings;
  const { commit, limits } =
    live?.ok === true
      ? { commit: live.value.commit, limits: runLimitsOf({ agent: live.value.definition, organization: settings }) }
      : failed;
  const maxDepth = allowedCallDepth(failed.message, Number(limits.maxDepth));
  const begun = await beginAnew(deps.db, { ...job, commit, limits: { ...limits, maxDepth } });
  if (begun === undefined) return;
  const wakeUp = wakeUpOf({ orgId, runId: begun.runId, wake: 1, priority: begun.priority });
  await deps.queue
    .add(wakeUp)
    .catch((error: unknown) => deps.log.error("enqueue_failed", error, { runId: begun.runId }));
};
