import { AppError, userError } from "@shaman/kernel";

import type { GitOutcome } from "./run-git.ts";

const MAX_SHOWN_CHARS = 300;

/** The line in which Git says what went wrong, without what the server may have put around it. */
const complaint = (stderr: string): string => {
  const lines = stderr.split(/[\r\n]+/).map((line) => line.replace(/\p{C}/gu, " ").trim());
  const own = lines.findLast((line) => line.startsWith("fatal:") || line.startsWith("error:"));
  return (own ?? "git failed without saying why").slice(0, MAX_SHOWN_CHARS);
};

export const syncAborted = (): AppError =>
  new AppError({ code: "sync_aborted", kind: "operational", message: "The sync was stopped." });

export const repositoryTooLarge = (): AppError =>
  userError("repository_too_large", "The latest commit of the repository is larger than this installation fetches.");

type Rule = { readonly pattern: RegExp; readonly error: () => AppError };

const RULES: readonly Rule[] = [
  {
    pattern: /File too large|Out of memory|failed to map|cannot allocate/i,
    error: repositoryTooLarge,
  },
  {
    pattern: /terminal prompts disabled|could not read (?:Username|Password)|Authentication failed|error: 40[13]\b/i,
    error: () =>
      userError(
        "repository_access_denied",
        "The repository refuses us: register it with a credential that may read it.",
      ),
  },
  {
    pattern: /error: 30\d\b|redirect/i,
    error: () =>
      userError(
        "repository_redirects",
        "The server redirects this address: register the final one, which often ends in .git.",
      ),
  },
  {
    pattern: /not found|error: 404\b|does not appear to be a git repository|does not exist/i,
    error: () => userError("repository_not_found", "There is no Git repository at this address."),
  },
  {
    pattern: /dumb http transport|shallow capabilities/i,
    error: () =>
      userError("repository_not_supported", "The server is not a smart Git server, so it cannot be fetched from."),
  },
  {
    pattern: /dubious ownership/i,
    error: () =>
      userError("repository_access_denied", "The folder of the repository belongs to another user of this machine."),
  },
];

/** What a run that did not succeed means to whoever registered the repository. */
export const gitError = (outcome: GitOutcome): AppError => {
  if (outcome.end === "aborted") return syncAborted();
  if (outcome.end === "late") {
    return new AppError({
      code: "repository_too_slow",
      kind: "operational",
      message: "The repository took too long to answer.",
      publicMessage: "The repository took too long to answer. It will be tried again.",
    });
  }
  const rule = RULES.find(({ pattern }) => pattern.test(outcome.stderr));
  if (rule !== undefined) return rule.error();
  return new AppError({
    code: "repository_unreachable",
    kind: "operational",
    message: `git: ${complaint(outcome.stderr)}`,
    publicMessage: "The repository could not be fetched. It will be tried again.",
  });
};
