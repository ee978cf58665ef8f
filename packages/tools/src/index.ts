export { callAgentSpec, CALL_AGENT, parseCallAgent } from "./call-agent-tool.ts";
export type { ListedAgent } from "./call-agent-tool.ts";
export { PLATFORM_TOOL_SPECS, runPlatformTool } from "./platform-tools.ts";
export type { PlatformOutcome, WrittenArtifact } from "./platform-tools.ts";
export type { Tool, ToolContent, ToolContext, ToolNotice, ToolOutcome, ToolSet } from "./tool.ts";
