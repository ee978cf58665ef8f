import { findRepositoryName } from "@shaman/agents";
import type { Db } from "@shaman/db";
import type { McpTools, ToolSet } from "@shaman/tools";
import type { OpenToolsInput } from "./execute-task.ts";

const NO_TOOLS: ToolSet = { tools: [], problems: [], close: async () => undefined };

/** Opens the tools of the MCP servers that an agent's file names, for one run. An agent without servers costs nothing. */
export const createOpenTools =
  (deps: { readonly db: Db; readonly mcp: McpTools }) =>
  async ({ definition, repositoryId, context, signal }: OpenToolsInput): Promise<ToolSet> => {
    if (Object.keys(definition.mcpServers).length === 0) return NO_TOOLS;
    const { tenantId: orgId, runId } = context;
    const repositoryName = await findRepositoryName(deps.db, { orgId, repositoryId });
    return deps.mcp.open({ orgId, runId, repositoryId, repositoryName, definition, signal });
  };
