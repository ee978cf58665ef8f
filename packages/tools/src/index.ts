export { compileJsonSchema, type JsonSchemaValidator } from "./json-schema-validator.ts";
export { mcpConfig } from "./mcp/mcp-config.ts";
export type { McpLimits } from "./mcp/mcp-limits.ts";
export type { CatalogueTarget, McpTransports, OpenTransport } from "./mcp/mcp-target.ts";
export { createMcpTools, type McpTools, type McpToolsDeps, type OpenMcpToolsInput } from "./mcp/mcp-tools.ts";
export { PLATFORM_TOOL_SPECS, runPlatformTool } from "./platform-tools.ts";
export type { PlatformOutcome, WrittenArtifact } from "./platform-tools.ts";
export type { Tool, ToolContent, ToolContext, ToolNotice, ToolOutcome, ToolSet } from "./tool.ts";
