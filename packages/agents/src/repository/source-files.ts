/** One entry of a repository's registered directory. */
export type SourceFile = {
  /** Relative to the directory, with forward slashes. */
  readonly path: string;
  readonly kind: "file" | "symlink" | "submodule" | "other";
  readonly bytes: number;
};

/** A directory that agents are read from: a commit of a Git repository, or a plain folder. */
export type SourceFiles = {
  readonly list: readonly SourceFile[];
  /** Contents of ordinary files of `list`, by path. Asked for only after their sizes have been checked. */
  readonly read: (paths: readonly string[]) => Promise<ReadonlyMap<string, Uint8Array>>;
};

export const MAX_FILES = 2_000;

/** Where a problem of the whole directory is reported. */
export const WHOLE_DIRECTORY = ".";
