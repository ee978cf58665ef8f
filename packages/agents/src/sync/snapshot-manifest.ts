import type { Alias } from "../repository/parse-agents-json.ts";

/** What a commit of a repository said as a whole: immutable, and all that a run needs to find its agents again. */
export type SnapshotManifest = {
  /** Version of each agent, by its path. */
  readonly agents: Readonly<Record<string, string>>;
  readonly aliases: readonly Alias[];
};
