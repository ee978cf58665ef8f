export { agentsConfig } from "./config.ts";
export {
  PLATFORM_TOOLS,
  renderPrompt,
  type AgentDefinition,
  type AgentLimits,
  type AgentRetry,
  type AgentSkill,
  type McpServerUse,
  type PlatformTool,
  type PromptSegment,
  type ToolSelection,
} from "./definition/agent-definition.ts";
export { DEFAULT_LIMITS, MAXIMUM_LIMITS, type CompleteLimits } from "./definition/agent-limits.ts";
export { findNearNames } from "./definition/near-name.ts";
export { parseDefinition, type DefinitionDeps, type ParseScript } from "./definition/parse-definition.ts";
export { formatProblem, type Problem } from "./definition/problem.ts";
export { readYaml, type YamlFile } from "./definition/yaml-file.ts";
export { createGitSource, type GitSource, type GitSourceOptions } from "./git/git-source.ts";
export { getAgent, listAgents, type AgentPage, type AgentView, type ListAgentsInput } from "./manage/list-agents.ts";
export {
  getRepository,
  listRepositories,
  type ListRepositoriesInput,
  type RepositoryPage,
} from "./manage/list-repositories.ts";
export {
  registerRepository,
  registerRepositoryInput,
  type RegisterRepositoryDeps,
  type RegisterRepositoryInput,
} from "./manage/register-repository.ts";
export { findRepositoryName } from "./manage/find-repository-name.ts";
export { removeRepository } from "./manage/remove-repository.ts";
export type { RepositoryDetail, RepositoryView } from "./manage/repository-view.ts";
export { listDueRepositories, requestSync } from "./manage/request-sync.ts";
export type { Alias } from "./repository/parse-agents-json.ts";
export { validateFolder, type FolderReport } from "./repository/validate-folder.ts";
export {
  createAgentResolver,
  type AgentResolver,
  type AgentResolverDeps,
  type PinnedInput,
  type ResolvedAgent,
} from "./resolve/agent-resolver.ts";
export { resolveCallee, type Callee, type CalleeDeps, type CalleeInput } from "./resolve/resolve-callee.ts";
export type { Changes } from "./sync/store-commit.ts";
export type { RepositoryKey } from "./sync/sync-lease.ts";
export { syncRepository, type SyncDeps, type SyncInput, type SyncReport } from "./sync/sync-repository.ts";
