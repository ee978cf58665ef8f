import { recordAudit, type AuditEntry } from "@shaman/audit";
import type { Db } from "@shaman/db";
import { AppError, err, ok, publicMessageOf, toAppError, userError, type Result, type Secret } from "@shaman/kernel";
import { open, secretIdentity, type SecretKeys } from "@shaman/secrets";

import type { DefinitionDeps } from "../definition/parse-definition.ts";
import { formatProblem, type Problem } from "../definition/problem.ts";
import type { GitPlace } from "../git/git-place.ts";
import type { GitSource } from "../git/git-source.ts";
import { repositoryResource } from "../manage/repository-view.ts";
import { readAgents } from "../repository/read-agents.ts";
import { findMissingCalls } from "./find-missing-calls.ts";
import { storeCommit, type Changes } from "./store-commit.ts";
import {
  acquireSync,
  RELEASE,
  releaseValues,
  type HeldRepository,
  type RecordedSync,
  type RepositoryKey,
  type SyncEnd,
} from "./sync-lease.ts";

export type SyncDeps = DefinitionDeps & {
  readonly db: Db;
  readonly git: GitSource;
  readonly secretKeys: SecretKeys;
};

export type SyncInput = RepositoryKey & {
  /** Who asked, for the audit row. */
  readonly actor?: string;
  readonly signal?: AbortSignal;
};

/**
 * `unchanged`: the live commit is the latest. `switched`: the latest commit is live now. `refused`: the latest commit
 * has problems, and what was live before still is.
 */
export type SyncReport =
  | { readonly outcome: "unchanged"; readonly commit: string }
  | { readonly outcome: "switched"; readonly commit: string; readonly changes: Changes }
  | {
      readonly outcome: "refused";
      readonly commit: string;
      readonly liveCommit: string | null;
      readonly problems: readonly Problem[];
    };

/** After an error that time may mend, also where no schedule is set. */
const RETRY_SECONDS = 60;
const REFUSED = "agents_refused";

const refusedMessage = (problems: readonly Problem[]): string => {
  const [first] = problems;
  const more = problems.length - 1;
  const rest = more > 0 ? `, and ${more} more problem${more === 1 ? "" : "s"}` : "";
  return `The commit was refused as a whole: ${first === undefined ? "" : formatProblem(first)}${rest}`;
};

const auditOf = (
  held: HeldRepository,
  input: SyncInput,
  fields: Pick<AuditEntry, "result" | "details">,
): AuditEntry => ({
  orgId: held.orgId,
  actor: input.actor ?? "system:worker",
  action: "repository:sync",
  resource: repositoryResource(held.name),
  server: "worker",
  ...fields,
});

const credentialOf = (deps: SyncDeps, held: HeldRepository): Result<Secret | undefined> => {
  const { secret, orgId, url } = held;
  if (secret === null) return ok(undefined);
  if (URL.parse(url)?.origin !== secret.origin) {
    return err(
      userError("credential_origin", `The credential belongs to ${secret.origin}, not to this repository's address.`),
    );
  }
  return open(deps.secretKeys, { sealed: secret.sealed, identity: secretIdentity({ orgId, secretId: secret.id }) });
};

const release = (deps: SyncDeps, held: HeldRepository, write: { readonly end: SyncEnd; readonly audit?: AuditEntry }) =>
  deps.db.withOrg(held.orgId, async (tx) => {
    const { rowCount } = await tx.query({
      name: "sync_release",
      text: RELEASE,
      values: releaseValues(held, write.end),
    });
    if (rowCount > 0 && write.audit !== undefined) await recordAudit(tx, write.audit);
  });

const refuse = async (
  deps: SyncDeps,
  held: HeldRepository,
  input: SyncInput & { readonly commit: string; readonly problems: readonly Problem[] },
): Promise<SyncReport> => {
  const { commit, problems } = input;
  const message = refusedMessage(problems);
  const end: SyncEnd = {
    state: "failed",
    seenCommit: commit,
    problems,
    error: { code: REFUSED, message },
    retrySeconds: null,
  };
  const isNews = held.seenCommit !== commit || JSON.stringify(held.problems) !== JSON.stringify(problems);
  const audit = auditOf(held, input, { result: "failed", details: { commit, problems: problems.length } });
  await release(deps, held, { end, ...(isNews && { audit }) });
  return { outcome: "refused", commit, liveCommit: held.liveCommit, problems };
};

/** What the live commit was warned of, if it was the last one that was looked at. */
const warningsOf = ({ problems }: HeldRepository): readonly Problem[] =>
  problems.filter(({ severity }) => severity === "warning");

/** The sync itself, with the lease held. An error means that nothing was learnt about the commit. */
const syncHeld = async (deps: SyncDeps, held: HeldRepository, input: SyncInput): Promise<Result<SyncReport>> => {
  const credential = credentialOf(deps, held);
  if (!credential.ok) return credential;
  const { orgId, repositoryId, url, branch, directory } = held;
  const place: GitPlace = { orgId, repositoryId, url, branch, directory, credential: credential.value };
  const tip = await deps.git.findTip(place, input.signal);
  if (!tip.ok) return tip;
  if (tip.value === held.liveCommit) {
    const end: SyncEnd = {
      state: "ok",
      seenCommit: tip.value,
      problems: warningsOf(held),
      error: null,
      retrySeconds: null,
    };
    await release(deps, held, { end });
    return ok({ outcome: "unchanged", commit: tip.value });
  }
  const fetched = await deps.git.fetch(place, input.signal);
  if (!fetched.ok) return fetched;
  const { commit, files } = fetched.value;
  const content = await readAgents(deps, files);
  await deps.git.tidy(place);
  if (!content.ok) return ok(await refuse(deps, held, { ...input, commit, problems: content.error }));
  const audit = auditOf(held, input, { result: "ok", details: { commit, agents: content.value.agents.length } });
  const warnings = await findMissingCalls(deps.db, held, content.value);
  const stored = await storeCommit(deps.db, { held, commit, content: content.value, warnings, audit });
  if ("problems" in stored) return ok(await refuse(deps, held, { ...input, commit, problems: stored.problems }));
  return ok({ outcome: "switched", commit, changes: stored.changes });
};

const reportOf = (recorded: RecordedSync): Result<SyncReport> => {
  const { liveCommit, seenCommit, problems, error } = recorded;
  if (error?.code === REFUSED && seenCommit !== null) {
    return ok({ outcome: "refused", commit: seenCommit, liveCommit, problems });
  }
  if (error === null && liveCommit !== null) return ok({ outcome: "unchanged", commit: liveCommit });
  return err(
    new AppError({
      code: error?.code ?? "sync_failed",
      kind: "operational",
      message: error?.message ?? "The sync did not end.",
      publicMessage: error?.message ?? "The sync did not end. Try again.",
    }),
  );
};

/**
 * Brings a repository's agents to the latest commit of its branch. The commit becomes live as a whole or not at all;
 * problems are recorded in the repository's row with file and line. Who asks while a sync runs waits for that one.
 * Errors: `repository_not_found_here`, and what keeps a repository from being fetched (recorded as well). Throws faults.
 */
export const syncRepository = async (deps: SyncDeps, input: SyncInput): Promise<Result<SyncReport>> => {
  const key = { orgId: input.orgId, repositoryId: input.repositoryId };
  const acquired = await acquireSync(deps.db, key, input.signal);
  if (!acquired.ok) {
    // What is left of a repository that was removed.
    await deps.git.forget(key);
    return acquired;
  }
  if ("recorded" in acquired.value) return reportOf(acquired.value.recorded);
  const { held } = acquired.value;
  const fail = async (error: AppError): Promise<void> => {
    const { code, kind } = error;
    const retrySeconds = kind === "user" ? null : RETRY_SECONDS;
    const end: SyncEnd = {
      state: "failed",
      problems: [],
      error: { code, message: publicMessageOf(error) },
      retrySeconds,
    };
    await release(deps, held, { end });
  };
  try {
    const report = await syncHeld(deps, held, input);
    if (!report.ok) await fail(report.error);
    return report;
  } catch (thrown) {
    const error = toAppError(thrown);
    // Where even that cannot be written, the lease ends by itself and the sync is due again.
    await fail(error).catch(() => undefined);
    if (error.kind === "unexpected") throw error;
    return err(error);
  }
};
