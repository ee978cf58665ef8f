import type { Logger } from "@shaman/telemetry";
import { createStdioServers, type Catalogue, type StdioServers } from "@shaman/tools";
import type { InternalConfig } from "../config.ts";

/** The operator's stdio MCP servers, ready to be started. */
export const openStdioServers = (config: InternalConfig["stdio"], catalogue: Catalogue, log: Logger): StdioServers => {
  if (config.unsandboxed) log.warn("mcp_servers_unsandboxed", { servers: catalogue.size });
  return createStdioServers({
    catalogue,
    config,
    onEnd: ({ message, ...end }) => log.info("mcp_server_ended", { ...end, detail: message }),
  });
};
