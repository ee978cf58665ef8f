import { stat } from "node:fs/promises";

import { err, ok, userError, type Result } from "@shaman/kernel";

import type { AgentDefinition } from "../definition/agent-definition.ts";
import type { DefinitionDeps } from "../definition/parse-definition.ts";
import type { Problem } from "../definition/problem.ts";
import { missingCalls, namesWithin } from "./calls-elsewhere.ts";
import { folderFiles } from "./folder-files.ts";
import type { Alias } from "./parse-agents-json.ts";
import { readAgents } from "./read-agents.ts";

export type FolderReport = {
  readonly problems: readonly Problem[];
  /** What may be meant as it is, and is worth a look. */
  readonly warnings: readonly Problem[];
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
  if (!content.ok) return ok({ problems: content.error, warnings: [], agents: [], aliases: [] });
  const { agents, calls, ...rest } = content.value;
  // A name with a repository before it says itself that it is not here.
  const unknown = calls.filter(({ name }) => !name.includes(":"));
  const consequence =
    "in this folder: somebody else of the organization has to expose it, or register it as an outside one";
  const warnings = missingCalls(unknown, { known: namesWithin(content.value), consequence });
  return ok({ problems: [], warnings, agents: agents.map(({ definition }) => definition), ...rest });
};
