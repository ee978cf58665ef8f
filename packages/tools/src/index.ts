export { callAgentSpec, CALL_AGENT, parseCallAgent } from "./call-agent-tool.ts";
export type { ListedAgent } from "./call-agent-tool.ts";
export { mcpConfig } from "./mcp/mcp-config.ts";
export type { McpLimits } from "./mcp/mcp-limits.ts";
export type { CatalogueTarget, McpTransports, OpenTransport } from "./mcp/mcp-target.ts";
export { createMcpTools, type McpTools, type McpToolsDeps, type OpenMcpToolsInput } from "./mcp/mcp-tools.ts";
export { PLATFORM_TOOL_SPECS, runPlatformTool } from "./platform-tools.ts";
export type { PlatformOutcome, WrittenArtifact } from "./platform-tools.ts";
export type { Tool, ToolContent, ToolContext, ToolNotice, ToolOutcome, ToolSet } from "./tool.ts";
export { loadCatalogue } from "./catalogue/load-catalogue.ts";
export type { Catalogue, CatalogueEntry } from "./catalogue/catalogue-entry.ts";
export { stdioConfig } from "./catalogue/stdio-config.ts";
export {
  createStdioServers,
  type CatalogueUse,
  type StdioServerEnd,
  type StdioServers,
  type StdioServersDeps,
} from "./catalogue/stdio-servers.ts";
