import { randomBytes } from "node:crypto";
import { createOperatorPrincipal } from "@shaman/access";
import type { McpServerUse, ToolSelection } from "@shaman/agents";
import { unwrap } from "@shaman/kernel";
import { registerMcpServer, type RegisterMcpServerInput } from "@shaman/mcp";
import { createOutbound, type Outbound } from "@shaman/outbound";
import { parseSecretKeys } from "@shaman/secrets";
import {
  startMcpServer,
  testDatabase,
  type McpTestServer,
  type McpTestServerOptions,
  type McpTestTool,
  type TestDatabase,
} from "@shaman/testkit";
import { afterAll, beforeAll, onTestFinished } from "vitest";
import type { Tool, ToolContext, ToolNotice, ToolOutcome, ToolSet } from "../tool.ts";
import type { McpLimits } from "./mcp-limits.ts";
import { createMcpTools, type McpTools, type McpToolsDeps } from "./mcp-tools.ts";

type Servers = Readonly<Record<string, McpServerUse>>;

/** A database of the file's own and what tests of MCP tools need; what a test starts ends with it. */
export const mcpScene = () => {
  let database: TestDatabase;
  let development: Outbound;
  let runs = 0;
  const keys = parseSecretKeys(`test:${randomBytes(32).toString("base64url")}`);
  if (!keys.ok) throw new Error(keys.error);
  const secretKeys = keys.value;

  beforeAll(async () => {
    database = await testDatabase();
    development = createOutbound({ allowLoopback: true, mapLocalhost: true, allowHttp: true });
  });
  afterAll(async () => {
    await development.close();
    await database.close();
  });

  const givenServer = async (
    tools: readonly McpTestTool[],
    more: Omit<McpTestServerOptions, "tools"> = {},
  ): Promise<McpTestServer> => {
    const server = await startMcpServer({ tools, ...more });
    onTestFinished(server.close);
    return server;
  };

  const givenTools = (
    limits: Partial<McpLimits> = {},
    outbound = development,
    catalogue?: McpToolsDeps["catalogue"],
  ): McpTools => {
    const deps = { db: database.as("internal"), secretKeys, outbound, limits };
    const tools = createMcpTools({ ...deps, ...(catalogue && { catalogue }) });
    onTestFinished(tools.close);
    return tools;
  };

  const givenOrg = async () => {
    const { orgId } = await database.givenOrg();
    const operator = createOperatorPrincipal({ orgId, name: "test" });
    const manage = { db: database.as("web"), origin: { server: "test" }, secretKeys, checkUrl: development.checkUrl };
    return {
      orgId,
      manage,
      operator,
      register: (input: RegisterMcpServerInput) => registerMcpServer(manage, operator, input).then(unwrap),
    };
  };

  const open = (
    tools: McpTools,
    at: { readonly orgId: string; readonly runId?: string; readonly repositoryId?: string },
    mcpServers: Servers,
    repeatable: readonly string[] = [],
  ): Promise<ToolSet> => {
    runs += 1;
    return tools.open({
      runId: `run_${runs}`,
      repositoryId: "repo_1",
      repositoryName: "agents",
      ...at,
      definition: { mcpServers, repeatable },
      signal: AbortSignal.timeout(60_000),
    });
  };

  const inspect: TestDatabase["inspect"] = (text, values) => database.inspect(text, values);

  const databaseUrl = (): URL => new URL(database.ownerUrl.reveal());

  return { givenServer, givenTools, givenOrg, open, inspect, databaseUrl };
};

export const registered = (selection: ToolSelection = "*"): McpServerUse => ({ kind: "registered", tools: selection });

export const inline = (url: string, transport: "streamable-http" | "sse" = "streamable-http"): McpServerUse => ({
  kind: "inline",
  url,
  transport,
  tools: "*",
});

export const toolNamed = (set: ToolSet, originalName: string): Tool => {
  const tool = set.tools.find((each) => each.originalName === originalName);
  if (tool === undefined) throw new Error(`No tool ${originalName}; problems: ${set.problems.join(" ")}`);
  return tool;
};

export const context = (signal: AbortSignal = AbortSignal.timeout(60_000)) => {
  const notices: ToolNotice[] = [];
  const given: ToolContext = { signal, notice: (notice) => notices.push(notice) };
  return { ...given, notices };
};

export const textOf = (outcome: ToolOutcome): string =>
  outcome.content.map((each) => (each.type === "text" ? each.text : `<${each.type}>`)).join("\n");

export const echo: McpTestTool = {
  name: "echo",
  description: "Says it again",
  inputSchema: { type: "object", properties: { text: { type: "string" } }, required: ["text"] },
  annotations: { readOnlyHint: true },
  run: async ({ text }) => ({ content: [{ type: "text", text: `you said ${String(text)}` }] }),
};

export const charge: McpTestTool = { name: "charge" };
