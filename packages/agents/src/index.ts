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
export { didYouMean, findNearNames } from "./definition/near-name.ts";
export { parseDefinition, type DefinitionDeps, type ParseScript } from "./definition/parse-definition.ts";
export { formatProblem, type Problem } from "./definition/problem.ts";
export type { Alias } from "./repository/parse-agents-json.ts";
export { validateFolder, type FolderReport } from "./repository/validate-folder.ts";
