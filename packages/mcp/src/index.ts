export { approveMcpTools, type ApproveMcpToolsInput } from "./approve-mcp-tools.ts";
export { getMcpAuthorization } from "./get-mcp-authorization.ts";
export { findMcpServer, type UsableMcpServer } from "./find-mcp-server.ts";
export {
  getMcpSource,
  listMcpSources,
  type McpSourcePage,
  type McpSourceView,
  type McpToolView,
} from "./list-mcp-sources.ts";
export { MCP_TRANSPORTS, type McpTransport } from "./mcp-server.ts";
export { accessToken, type AccessTokenDeps, type AuthorizedServer } from "./oauth/access-tokens.ts";
export {
  authorizeClient,
  beginAuthorization,
  type OauthClient,
  type OauthDeps,
  type PendingAuthorization,
} from "./oauth/oauth-flow.ts";
export type { OauthState } from "./oauth/oauth-state.ts";
export {
  registerMcpServer,
  registerMcpServerInput,
  type RegisterMcpServerDeps,
  type RegisterMcpServerInput,
} from "./register-mcp-server.ts";
export { replaceMcpAuthorization } from "./replace-mcp-authorization.ts";
export { removeMcpServer } from "./remove-mcp-server.ts";
export {
  hashTool,
  recordSighting,
  type McpSource,
  type SeenBy,
  type SeenTool,
  type ToolStanding,
} from "./tool-sighting.ts";
