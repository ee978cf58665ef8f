import { execFile } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { AppError } from "@shaman/kernel";

const TIMEOUT_MS = 30_000;
const BRANCH = "refs/heads/main";
/** What we committed last; once the branch is elsewhere, somebody works in the repository and it is theirs. */
const SEEDED = "refs/shaman/seeded";

const run = promisify(execFile);

/** Names, dates and settings of the machine's Git must not matter. */
const GIT_ENVIRONMENT = {
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_CONFIG_NOSYSTEM: "1",
  GIT_AUTHOR_NAME: "Shaman examples",
  GIT_AUTHOR_EMAIL: "examples@shaman.invalid",
  GIT_COMMITTER_NAME: "Shaman examples",
  GIT_COMMITTER_EMAIL: "examples@shaman.invalid",
};

type Git = (args: readonly string[]) => Promise<string>;

const gitIn = (repository: string, source: string, path: string | undefined): Git => {
  const env = {
    ...GIT_ENVIRONMENT,
    ...(path !== undefined && { PATH: path }),
    GIT_INDEX_FILE: join(repository, "seed-index"),
  };
  return async (args) => {
    try {
      const { stdout } = await run("git", [...args], { cwd: source, env, timeout: TIMEOUT_MS, encoding: "utf8" });
      return stdout.trim();
    } catch (cause) {
      const missing = cause instanceof Error && "code" in cause && cause.code === "ENOENT";
      throw new AppError({
        code: missing ? "git_missing" : "git_failed",
        kind: "operational",
        message: missing
          ? "git was not found, and agents live in Git repositories: install git and start again."
          : `git ${args.find((arg) => !arg.startsWith("-"))} failed in ${repository}: ${cause instanceof Error ? cause.message : String(cause)}`,
        cause,
      });
    }
  };
};

export type ExampleRepository = {
  /** Folder with the agents. */
  readonly source: string;
  /** The bare repository to make. */
  readonly repository: string;
  /** Where `git` is looked for. */
  readonly path: string | undefined;
};

/**
 * Makes a bare repository with the files of a folder on `main`, and later brings changes of that folder in, as long as
 * nobody else committed to it. Does nothing when nothing changed.
 */
export const ensureExampleRepository = async ({ source, repository, path }: ExampleRepository): Promise<void> => {
  mkdirSync(repository, { recursive: true });
  const git = gitIn(repository, source, path);
  const inRepository: Git = (args) => git([`--git-dir=${repository}`, ...args]);
  if (!existsSync(join(repository, "HEAD"))) {
    await git(["init", "--quiet", "--bare", "--initial-branch=main", repository]);
  }
  const refs = await inRepository(["for-each-ref", "--format=%(refname) %(objectname)", BRANCH, SEEDED]);
  const idOf = (ref: string): string | undefined =>
    refs
      .split("\n")
      .find((line) => line.startsWith(`${ref} `))
      ?.slice(ref.length + 1);
  const head = idOf(BRANCH);
  if (head !== undefined && head !== idOf(SEEDED)) return;
  await inRepository(["-c", "core.autocrlf=false", `--work-tree=${source}`, "add", "--all", "--force", "."]);
  const tree = await inRepository(["write-tree"]);
  if (head !== undefined && (await inRepository(["rev-parse", `${head}^{tree}`])) === tree) return;
  const parent = head === undefined ? [] : ["-p", head];
  const commit = await inRepository(["commit-tree", tree, ...parent, "-m", "Agents of the example"]);
  await inRepository(["update-ref", BRANCH, commit]);
  await inRepository(["update-ref", SEEDED, commit]);
};
