import { setTimeout as sleep } from "node:timers/promises";
import { formatProblem, getRepository, requestSync, type RepositoryDetail } from "@shaman/agents";
import { AppError, unwrap } from "@shaman/kernel";
import type { Principal } from "@shaman/access";
import type { Cli } from "./cli.ts";

const POLL_MS = 200;

/** Asks the worker for a sync and waits until it has ended. Throws `sync_not_started` when no worker took it in time. */
export const syncAndWait = async (
  cli: Cli,
  principal: Principal,
  input: { readonly repository: string; readonly timeoutMs: number },
): Promise<RepositoryDetail> => {
  const deps = { db: cli.db() };
  const { repositoryId, since } = unwrap(await requestSync(deps, principal, input.repository));
  const untilMs = cli.clock.now() + input.timeoutMs;
  for (;;) {
    const repository = unwrap(await getRepository(deps, principal, repositoryId));
    if (repository.attemptedAt !== null && repository.attemptedAt > since) return repository;
    if (cli.clock.now() > untilMs) throw notSynced(repository);
    await sleep(POLL_MS);
  }
};

const notSynced = ({ name, state }: RepositoryDetail): AppError =>
  new AppError({
    code: "sync_not_finished",
    kind: "operational",
    message:
      state === "syncing"
        ? `${name} is still being synced. It goes on by itself: ./shaman repo list shows how it ended.`
        : `No worker has taken the sync of ${name} yet. Is one running? It takes the sync as soon as it is.`,
  });

const PROBLEMS_SHOWN = 20;

/** How a sync ended, for people. */
export const describeSync = (repository: RepositoryDetail): string => {
  const { name, state, liveCommit, agents, error, problems } = repository;
  const lines = [
    state === "ok"
      ? `${name} is live at ${liveCommit?.slice(0, 12)} with ${agents} ${agents === 1 ? "agent" : "agents"}.`
      : `The sync of ${name} failed: ${error?.message ?? "its files have problems"}`,
  ];
  lines.push(...problems.slice(0, PROBLEMS_SHOWN).map((problem) => `  ${formatProblem(problem)}`));
  if (problems.length > PROBLEMS_SHOWN) lines.push(`  and ${problems.length - PROBLEMS_SHOWN} more`);
  if (state !== "ok" && liveCommit !== null) {
    lines.push(`The commit before, ${liveCommit.slice(0, 12)}, goes on serving.`);
  }
  return `${lines.join("\n")}\n`;
};
