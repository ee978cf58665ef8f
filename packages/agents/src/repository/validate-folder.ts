import { stat } from "node:fs/promises";

import { err, ok, userError, type Result } from "@shaman/kernel";

import type { AgentDefinition } from "../definition/agent-definition.ts";
import type { DefinitionDeps } from "../definition/parse-definition.ts";
import type { Problem } from "../definition/problem.ts";
import { folderFiles } from "./folder-files.ts";
import type { Alias } from "./parse-agents-json.ts";
import { readAgents } from "./read-agents.ts";

export type FolderReport = {
  readonly problems: readonly Problem[];
  /** Empty when there are problems: a repository is taken as a whole or not at all. */
  readonly agents: readonly AgentDefinition[];
  readonly aliases: readonly Alias[];
  readonly defaultAgent?: string;
};

/**
 * Checks a plain folder exactly as a sync checks a commit, without a database. Error: `folder_not_found`.
 */
export const validateFolder = async (deps: DefinitionDeps, folder: string): Promise<Result<FolderReport>> => {
  const isFolder = await stat(folder).then(
    (found) => found.isDirectory(),
    () => false,
  );
  if (!isFolder) return err(userError("folder_not_found", `${folder} is not a folder that can be read.`));
  const content = await readAgents(deps, await folderFiles(folder));
  if (!content.ok) return ok({ problems: content.error, agents: [], aliases: [] });
  const { agents, ...rest } = content.value;
  return ok({ problems: [], agents: agents.map(({ definition }) => definition), ...rest });
};
