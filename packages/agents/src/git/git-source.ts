import { access, mkdir, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";

import { AppError, err, ok, userError, type Result } from "@shaman/kernel";
import type { GitRemote } from "@shaman/outbound";

import { MAX_FILES, type SourceFiles } from "../repository/source-files.ts";
import { gitError, repositoryTooLarge } from "./git-error.ts";
import { parseBatch, parseTree, type TreeEntry } from "./git-objects.ts";
import { checkBranch, checkDirectory, type GitPlace } from "./git-place.ts";
import { runGit, type GitOutcome, type GitProgram, type GitRun } from "./run-git.ts";

export type GitSourceOptions = {
  /** Absolute path of the folder for copies of repositories; below it one folder an organization. */
  readonly cacheDir: string;
  /** The guarded way out's check; what it gives is what Git connects to. */
  readonly checkGitUrl: (url: string) => Promise<Result<GitRemote>>;
  readonly gitProgram?: string | undefined;
  /** Largest pack that is fetched. */
  readonly maxPackBytes?: number;
  readonly fetchTimeoutMs?: number;
};

/** One commit, ready to be read. */
export type GitCommit = { readonly commit: string; readonly files: SourceFiles };

export type GitSource = {
  /** The commit a branch points to now, without fetching it. */
  readonly findTip: (place: GitPlace, signal?: AbortSignal) => Promise<Result<string>>;
  /** Fetches the branch's latest commit, alone, and lists its directory. Nothing is ever checked out. */
  readonly fetch: (place: GitPlace, signal?: AbortSignal) => Promise<Result<GitCommit>>;
  /** Drops what a fetch has left behind when there is too much of it. */
  readonly tidy: (place: Pick<GitPlace, "orgId" | "repositoryId">) => Promise<void>;
  /** Drops the copy of a repository. */
  readonly forget: (place: Pick<GitPlace, "orgId" | "repositoryId">) => Promise<void>;
};

const MB = 1024 * 1024;
const DEFAULT_MAX_PACK_BYTES = 200 * MB;
const DEFAULT_FETCH_TIMEOUT_MS = 120_000;
const TIP_TIMEOUT_MS = 20_000;
const LOCAL_TIMEOUT_MS = 20_000;
const MAX_REFS_BYTES = 64 * 1024;
const MAX_TREE_BYTES = 4 * MB;
/** Above the most that is ever asked for in one go, with its headers. */
const MAX_BATCH_BYTES = 80 * MB;
const MAX_PACKS = 60;
const COMMIT = /^[0-9a-f]{40}(?:[0-9a-f]{24})?$/;
const FETCHED = "refs/shaman/fetched";
/** The user name that hosts take with a bare token. */
const TOKEN_USER = "x-access-token";
const NO_MATCHING_REF_CODE = 2;

const failed = (outcome: GitOutcome): boolean => outcome.end !== "ended" || outcome.code !== 0;

/** How to reach the remote: what is put on the command line, the protocol, and configuration with the credential. */
type Reach = { readonly address: string } & Pick<GitRun, "protocol" | "config">;

const reach = async (options: GitSourceOptions, place: GitPlace): Promise<Result<Reach>> => {
  const branch = checkBranch(place.branch);
  if (!branch.ok) return branch;
  const checked = await options.checkGitUrl(place.url);
  if (!checked.ok) return checked;
  const remote = checked.value;
  // A path, not its URL: Git would decode percent signs after the check.
  if (remote.kind === "file") return ok({ address: remote.path, protocol: "file" });
  const { origin, protocol } = new URL(remote.url);
  const config: (readonly [string, string])[] = [];
  if (remote.curloptResolve !== null) config.push(["http.curloptResolve", remote.curloptResolve]);
  if (place.credential !== undefined) {
    const text = place.credential.reveal();
    const basic = Buffer.from(text.includes(":") ? text : `${TOKEN_USER}:${text}`).toString("base64");
    config.push([`http.${origin}/.extraHeader`, `Authorization: Basic ${basic}`]);
  }
  return ok({ address: remote.url, protocol: protocol === "http:" ? "http" : "https", config });
};

const branchNotFound = (branch: string): AppError =>
  userError("branch_not_found", `The repository has no branch ${branch}.`);

const directoryNotFound = (directory: string): AppError =>
  userError("directory_not_found", `The latest commit has no directory ${directory}.`);

const missing = async (path: string): Promise<boolean> =>
  access(path).then(
    () => false,
    () => true,
  );

/** Sizes in bytes of the packs of a copy, finished or not, with their indexes. */
const packSizes = async (gitDir: string): Promise<readonly number[]> => {
  const folder = join(gitDir, "objects", "pack");
  const names = await readdir(folder).catch(() => []);
  const found = await Promise.all(names.map((name) => stat(join(folder, name)).catch(() => undefined)));
  return found.map((each) => each?.size ?? 0);
};

const SAFE_ID = /^[A-Za-z0-9_-]{1,64}$/;

const folderOf = (options: GitSourceOptions, place: Pick<GitPlace, "orgId" | "repositoryId">): string => {
  if (!SAFE_ID.test(place.orgId) || !SAFE_ID.test(place.repositoryId)) {
    throw new AppError({ code: "git_cache_name", kind: "unexpected", message: "An id cannot be the name of a folder" });
  }
  return join(options.cacheDir, place.orgId, `${place.repositoryId}.git`);
};

/** The blobs of one commit. Sizes are known from the listing, so that nothing large is ever asked for. */
const commitFiles = (git: GitProgram, gitDir: string, entries: readonly TreeEntry[]): SourceFiles => {
  const byPath = new Map(entries.map((entry) => [entry.path, entry]));
  return {
    list: entries,
    read: async (paths) => {
      const wanted = paths.flatMap((path) => byPath.get(path) ?? []).filter((entry) => entry.kind === "file");
      const oids = [...new Set(wanted.map((entry) => entry.oid))];
      const outcome = await runGit(git, {
        args: [`--git-dir=${gitDir}`, "cat-file", "--batch", "--buffer"],
        input: oids.map((oid) => `${oid}\n`).join(""),
        timeoutMs: LOCAL_TIMEOUT_MS,
        maxOutputBytes: MAX_BATCH_BYTES,
      });
      if (failed(outcome)) throw gitError(outcome);
      const contents = parseBatch(outcome.stdout);
      return new Map(
        wanted.flatMap((entry) => {
          const content = contents.get(entry.oid);
          return content === undefined ? [] : [[entry.path, content] as const];
        }),
      );
    },
  };
};

/** Lists the directory of a commit. Stops reading when there are more files than anyone may have. */
const listDirectory = async (
  git: GitProgram,
  gitDir: string,
  at: { readonly commit: string; readonly directory: string },
): Promise<Result<readonly TreeEntry[]>> => {
  const outcome = await runGit(git, {
    args: [`--git-dir=${gitDir}`, "ls-tree", "-r", "-z", "-l", "--full-tree", `${at.commit}:${at.directory}`],
    timeoutMs: LOCAL_TIMEOUT_MS,
    maxOutputBytes: MAX_TREE_BYTES,
  });
  if (outcome.end === "full") return ok(parseTree(outcome.stdout).slice(0, MAX_FILES + 1));
  if (failed(outcome)) return err(outcome.end === "ended" ? directoryNotFound(at.directory) : gitError(outcome));
  return ok(parseTree(outcome.stdout));
};

/**
 * Repositories as data: one bare copy each, of the latest commit only, read by listing and by blob. Addresses pass the
 * outbound check each time they are used, hosts are pinned to the checked address, redirects are not followed, and
 * neither an address nor a branch can become an option of Git.
 */
export const createGitSource = (options: GitSourceOptions): GitSource => {
  const home = join(options.cacheDir, "home");
  const maxPackBytes = options.maxPackBytes ?? DEFAULT_MAX_PACK_BYTES;
  const git: GitProgram = { program: options.gitProgram ?? "git", maxFileBytes: maxPackBytes, home };

  const ensureCopy = async (place: GitPlace): Promise<string> => {
    const gitDir = folderOf(options, place);
    await mkdir(home, { recursive: true });
    if (!(await missing(join(gitDir, "HEAD")))) return gitDir;
    await mkdir(gitDir, { recursive: true, mode: 0o700 });
    const outcome = await runGit(git, {
      args: ["init", "--quiet", "--bare", "--template=", "--initial-branch=none", "--", gitDir],
      timeoutMs: LOCAL_TIMEOUT_MS,
      maxOutputBytes: MAX_REFS_BYTES,
    });
    if (failed(outcome)) throw gitError(outcome);
    return gitDir;
  };

  const forget: GitSource["forget"] = (place) => rm(folderOf(options, place), { recursive: true, force: true });

  const findTip: GitSource["findTip"] = async (place, signal) => {
    const way = await reach(options, place);
    if (!way.ok) return way;
    const gitDir = await ensureCopy(place);
    const { address, ...rest } = way.value;
    const ref = `refs/heads/${place.branch}`;
    const outcome = await runGit(git, {
      ...rest,
      args: [`--git-dir=${gitDir}`, "ls-remote", "--quiet", "--exit-code", "--", address, ref],
      timeoutMs: TIP_TIMEOUT_MS,
      maxOutputBytes: MAX_REFS_BYTES,
      signal,
    });
    if (outcome.end === "ended" && outcome.code === NO_MATCHING_REF_CODE) return err(branchNotFound(place.branch));
    if (failed(outcome)) return err(gitError(outcome));
    const line = outcome.stdout
      .toString("utf8")
      .split("\n")
      .find((text) => text.endsWith(`\t${ref}`));
    const commit = line?.split("\t", 1)[0] ?? "";
    return COMMIT.test(commit) ? ok(commit) : err(branchNotFound(place.branch));
  };

  const fetchBranch = async (place: GitPlace, way: Reach, signal: AbortSignal | undefined): Promise<Result<string>> => {
    const gitDir = await ensureCopy(place);
    const { address, ...rest } = way;
    const flags = [
      "--quiet",
      "--depth=1",
      "--no-tags",
      "--no-write-fetch-head",
      "--no-auto-maintenance",
      "--no-recurse-submodules",
    ];
    const outcome = await runGit(git, {
      ...rest,
      args: [`--git-dir=${gitDir}`, "fetch", ...flags, "--", address, `+refs/heads/${place.branch}:${FETCHED}`],
      timeoutMs: options.fetchTimeoutMs ?? DEFAULT_FETCH_TIMEOUT_MS,
      maxOutputBytes: MAX_REFS_BYTES,
      signal,
    });
    if (failed(outcome)) {
      const largest = Math.max(0, ...(await packSizes(gitDir)));
      // Half a pack helps nobody, and could be anything.
      await forget(place);
      if (outcome.end === "ended" && largest >= maxPackBytes) return err(repositoryTooLarge());
      const isBranch = outcome.end === "ended" && /couldn't find remote ref/i.test(outcome.stderr);
      return err(isBranch ? branchNotFound(place.branch) : gitError(outcome));
    }
    const parsed = await runGit(git, {
      args: [`--git-dir=${gitDir}`, "rev-parse", "--verify", "--quiet", `${FETCHED}^{commit}`],
      timeoutMs: LOCAL_TIMEOUT_MS,
      maxOutputBytes: MAX_REFS_BYTES,
    });
    const commit = parsed.stdout.toString("utf8").trim();
    return !failed(parsed) && COMMIT.test(commit) ? ok(commit) : err(branchNotFound(place.branch));
  };

  const fetch: GitSource["fetch"] = async (place, signal) => {
    const directory = checkDirectory(place.directory);
    if (!directory.ok) return directory;
    const way = await reach(options, place);
    if (!way.ok) return way;
    const commit = await fetchBranch(place, way.value, signal);
    if (!commit.ok) return commit;
    const gitDir = folderOf(options, place);
    const entries = await listDirectory(git, gitDir, { commit: commit.value, directory: directory.value });
    return entries.ok ? ok({ commit: commit.value, files: commitFiles(git, gitDir, entries.value) }) : entries;
  };

  const tidy: GitSource["tidy"] = async (place) => {
    const sizes = await packSizes(folderOf(options, place));
    const bytes = sizes.reduce((sum, size) => sum + size, 0);
    if (sizes.length > MAX_PACKS || bytes > maxPackBytes) await forget(place);
  };

  return { findTip, fetch, tidy, forget };
};
