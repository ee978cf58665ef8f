import { createMcpTools } from "@shaman/tools";
import type { Organization } from "@shaman/tenancy";
import type { Cli } from "./cli.ts";

/** What a registered server offers now; `available` is false when it could not be asked. */
export type McpLook = {
  readonly available: boolean;
  readonly tools: readonly { readonly name: string; readonly description: string; readonly repeatable: boolean }[];
  readonly problems: readonly string[];
};

/** Connects to a registered server as a run would and lists its tools. What it offers at first sight becomes approved. */
export const lookAtMcpServer = async (
  cli: Cli,
  organization: Organization,
  at: { readonly name: string; readonly timeoutMs: number },
): Promise<McpLook> => {
  const limits = { connectTimeoutMs: at.timeoutMs, silenceTimeoutMs: at.timeoutMs };
  const mcp = createMcpTools({ db: cli.db(), secretKeys: cli.secretKeys(), outbound: cli.outbound(), limits });
  try {
    const set = await mcp.open({
      orgId: organization.id,
      runId: "cli",
      repositoryId: "cli",
      repositoryName: "cli",
      definition: { mcpServers: { [at.name]: { kind: "registered", tools: "*" } }, repeatable: [] },
      signal: AbortSignal.timeout(at.timeoutMs * 2),
      seenBy: { actor: cli.actor, ...cli.origin },
    });
    const tools = set.tools.map(({ originalName, spec, repeatable }) => ({
      name: originalName,
      description: spec.description,
      repeatable,
    }));
    const available = set.unavailable.length === 0;
    await set.close();
    return { available, tools, problems: set.problems };
  } finally {
    await mcp.close();
  }
};
