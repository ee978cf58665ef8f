import { err, ok, userError, type Result, type Secret } from "@shaman/kernel";

/** Where agents come from. */
export type GitPlace = {
  readonly orgId: string;
  readonly repositoryId: string;
  readonly url: string;
  readonly branch: string;
  /** Folder within the repository, without slashes at its ends; empty for the whole of it. */
  readonly directory: string;
  /** `token`, or `user:token`; sent to the address's own origin only. */
  readonly credential?: Secret | undefined;
};

const MAX_NAME_CHARS = 200;

/** Git's own rules for branch names, and no leading dash (git-check-ref-format). */
export const checkBranch = (branch: string): Result<string> => {
  const isName =
    branch.length > 0 &&
    branch.length <= MAX_NAME_CHARS &&
    !/[\p{C}\s~^:?*[\\]|\.\.|@\{|\/\/|^[-/.@]|[/.]$|\/[-.]|\.lock(?:\/|$)/u.test(branch);
  return isName
    ? ok(branch)
    : err(userError("branch_invalid", `${JSON.stringify(branch.slice(0, 80))} is not a usable branch name.`));
};

/** A folder within the repository, normalized; what would lead out of it is refused. */
export const checkDirectory = (directory: string): Result<string> => {
  const segments = directory.split("/").filter((segment) => segment !== "" && segment !== ".");
  const isUsable =
    directory.length <= MAX_NAME_CHARS &&
    !directory.startsWith("/") &&
    !/[\p{C}\\:]/u.test(directory) &&
    segments.every((segment) => segment !== ".." && !segment.startsWith("-") && segment !== ".git");
  return isUsable
    ? ok(segments.join("/"))
    : err(
        userError(
          "directory_invalid",
          "The directory must be a relative path within the repository, such as agents or teams/sales.",
        ),
      );
};
