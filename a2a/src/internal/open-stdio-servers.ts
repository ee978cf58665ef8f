import { AppError } from "@shaman/kernel";
import type { Logger } from "@shaman/telemetry";
import { createStdioServers, loadCatalogue, type StdioServers } from "@shaman/tools";
import type { InternalConfig } from "../config.ts";

/**
 * Reads the operator's catalogue of stdio MCP servers. A catalogue with a mistake in it stops the start, with every problem
 * by file and line.
 */
export const openStdioServers = async (config: InternalConfig["stdio"], log: Logger): Promise<StdioServers> => {
  const catalogue = await loadCatalogue(config);
  if (!catalogue.ok) {
    const message = ["The catalogue of MCP servers cannot be used:", ...catalogue.error].join("\n");
    throw new AppError({ code: "mcp_catalogue_invalid", kind: "operational", message });
  }
  if (config.unsandboxed) log.warn("mcp_servers_unsandboxed", { servers: catalogue.value.size });
  return createStdioServers({
    catalogue: catalogue.value,
    config,
    onEnd: ({ message, ...end }) => log.info("mcp_server_ended", { ...end, detail: message }),
  });
};
