import type { AgentDefinition, McpServerUse } from "@shaman/agents";
import { err, toAppError, type Result } from "@shaman/kernel";
import type { SeenBy } from "@shaman/mcp";
import type { Outbound } from "@shaman/outbound";
import type { Tool, ToolSet } from "../tool.ts";
import { createHttpTransports } from "./http-transport.ts";
import { connectMcp } from "./mcp-connection.ts";
import { failureSentence } from "./mcp-failure.ts";
import { DEFAULT_MCP_LIMITS, type McpLimits } from "./mcp-limits.ts";
import { createMcpSession, type McpSession } from "./mcp-session.ts";
import type { McpTarget, McpTransports } from "./mcp-target.ts";
import { resolveServer, type ResolvedServer, type ResolveServerDeps, type ServerUser } from "./resolve-server.ts";
import { openServerTools, type ServerTool } from "./server-tools.ts";
import { createSessionPool, type SessionLease } from "./session-pool.ts";
import { modelToolNames } from "./tool-names.ts";

export type McpToolsDeps = ResolveServerDeps & {
  readonly outbound: Pick<Outbound, "fetch" | "fetchWith">;
  /** Opens programs of the operator's catalogue; absent where this machine runs none. */
  readonly catalogue?: McpTransports["catalogue"];
  readonly limits?: Partial<McpLimits>;
  /** What servers are told of us. */
  readonly version?: string;
};

export type OpenMcpToolsInput = ServerUser & {
  readonly definition: Pick<AgentDefinition, "mcpServers" | "repeatable">;
  readonly signal: AbortSignal;
  /** Who looks, when it is a person: absent for a run. */
  readonly seenBy?: SeenBy;
};

/** The tools of a run, and the servers (as the agent file calls them) of which there are none because they cannot be used. */
export type McpToolSet = ToolSet & { readonly unavailable: readonly string[] };

/** The MCP servers of this process: who uses which, and what is open. */
export type McpTools = {
  /** The tools that an agent's `mcpServers` give one run. Servers that cannot be used are among its problems. */
  readonly open: (input: OpenMcpToolsInput) => Promise<McpToolSet>;
  /** Sessions that are kept now, in use or idle. */
  readonly openSessions: () => number;
  readonly close: () => Promise<void>;
};

type Found = { readonly name: string; readonly tools: readonly ServerTool[] };

const withNames = (found: readonly Found[], repeatable: readonly string[]): readonly Tool[] => {
  const all = found.flatMap(({ name, tools }) => tools.map((tool) => ({ server: name, tool })));
  const names = modelToolNames(all.map(({ server, tool }) => ({ server, tool: tool.originalName })));
  return all.map(({ server, tool }, index): Tool => {
    const name = names[index] ?? "";
    return {
      spec: { name, description: tool.description, inputSchema: tool.inputSchema },
      server,
      originalName: tool.originalName,
      repeatable: tool.repeatable || repeatable.includes(name) || repeatable.includes(tool.originalName),
      run: tool.run,
    };
  });
};

/** Opens connections to MCP servers for agents and keeps them while they are used. */
export const createMcpTools = (deps: McpToolsDeps): McpTools => {
  const limits = { ...DEFAULT_MCP_LIMITS, ...deps.limits };
  const http = createHttpTransports({ outbound: deps.outbound, limits });
  const pool = createSessionPool(limits);

  const openTransport = (target: McpTarget): ReturnType<McpTransports["http"]> => {
    if (target.kind !== "catalogue") return http(target);
    if (deps.catalogue !== undefined) return deps.catalogue(target);
    return Promise.resolve(err(toAppError(new Error("This machine runs no servers of the catalogue."))));
  };

  const makeSession = ({ target }: ResolvedServer): McpSession =>
    createMcpSession({
      now: Date.now,
      connect: async (signal) => {
        const transport = await openTransport(target);
        if (!transport.ok) throw transport.error;
        return connectMcp({ transport: transport.value, limits, version: deps.version ?? "0.1.0" }, signal);
      },
    });

  const acquire = (input: OpenMcpToolsInput, resolved: ResolvedServer): SessionLease =>
    pool.acquire(
      {
        orgId: input.orgId,
        sourceId: resolved.source.id,
        credentialId: resolved.credentialId,
        runId: resolved.stateless ? null : input.runId,
      },
      () => makeSession(resolved),
    );

  type Opened = {
    readonly name: string;
    readonly found?: Found;
    readonly problems: readonly string[];
    readonly release?: () => void;
  };

  const openOne = async (input: OpenMcpToolsInput, name: string, use: McpServerUse): Promise<Opened> => {
    const unavailable = (error: unknown): Opened => {
      input.signal.throwIfAborted();
      return { name, problems: [`The MCP server ${name} is not available: ${failureSentence(error)}`] };
    };
    const resolved: Result<ResolvedServer> = await resolveServer(deps, input, { name, use });
    if (!resolved.ok) return unavailable(resolved.error);
    let lease: SessionLease;
    try {
      lease = acquire(input, resolved.value);
    } catch (error) {
      return unavailable(error);
    }
    const { session, release } = lease;
    try {
      const { orgId, runId, seenBy = { actor: "system:internal", server: "internal", runId } } = input;
      const server = { orgId, name, resolved: resolved.value, selection: use.tools, session, seenBy };
      const { tools, problems } = await openServerTools({ db: deps.db, limits }, server, input.signal);
      return { name, found: { name, tools }, problems, release };
    } catch (error) {
      release();
      return unavailable(error);
    }
  };

  return {
    open: async (input) => {
      const servers = Object.entries(input.definition.mcpServers);
      const settled = await Promise.allSettled(servers.map(([name, use]) => openOne(input, name, use)));
      const opened = settled.flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
      const close = async (): Promise<void> => {
        for (const { release } of opened) release?.();
      };
      const fault = settled.find((each) => each.status === "rejected");
      if (fault !== undefined) {
        await close();
        throw fault.reason;
      }
      return {
        tools: withNames(
          opened.flatMap(({ found }) => found ?? []),
          input.definition.repeatable,
        ),
        problems: opened.flatMap(({ problems }) => problems),
        unavailable: opened.flatMap(({ name, found }) => (found === undefined ? [name] : [])),
        close,
      };
    },
    openSessions: pool.size,
    close: pool.close,
  };
};
