import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { Server } from "@modelcontextprotocol/sdk/server/index.js";
import { SSEServerTransport } from "@modelcontextprotocol/sdk/server/sse.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import {
  CallToolRequestSchema,
  GetPromptRequestSchema,
  ListPromptsRequestSchema,
  ListResourcesRequestSchema,
  ListToolsRequestSchema,
  ReadResourceRequestSchema,
  type CallToolResult,
} from "@modelcontextprotocol/sdk/types.js";

/** What a tool of the test's server may do besides answering. */
export type McpToolCall = {
  readonly signal: AbortSignal;
  readonly sessionId: string | undefined;
  readonly progress: (progress: number, total: number, message: string) => Promise<void>;
  readonly log: (message: string) => Promise<void>;
  /** Breaks the connection that waits for the answer. */
  readonly die: () => void;
};

export type McpTestTool = {
  readonly name: string;
  readonly description?: string;
  /** Anything: a server may lie. */
  readonly inputSchema?: unknown;
  readonly outputSchema?: unknown;
  readonly annotations?: Readonly<Record<string, unknown>>;
  readonly run?: (input: Readonly<Record<string, unknown>>, call: McpToolCall) => Promise<CallToolResult>;
};

export type McpTestServer = {
  /** Streamable HTTP. */
  readonly url: string;
  readonly sseUrl: string;
  /** Every request that came, in order. */
  readonly requests: readonly { readonly method: string; readonly headers: IncomingMessage["headers"] }[];
  /** Ids of the sessions that were begun, and of those that were ended by their client. */
  readonly sessions: readonly string[];
  readonly ended: readonly string[];
  /** Names of the tools that were called, in order. */
  readonly calls: readonly string[];
  /** Offers other tools from now on, and tells every open session so unless it is to be silent. */
  readonly setTools: (tools: readonly McpTestTool[], options?: { readonly silently: boolean }) => Promise<void>;
  /** Forgets all sessions, as a server does that was started anew. */
  readonly forgetSessions: () => void;
  readonly close: () => Promise<void>;
};

export type McpTestServerOptions = {
  readonly tools: readonly McpTestTool[];
  /** Texts by URI. */
  readonly resources?: Readonly<Record<string, string>>;
  /** Texts by name. */
  readonly prompts?: Readonly<Record<string, string>>;
  /** Looked at before anything else; `true` means that it has answered. */
  readonly intercept?: (incoming: IncomingMessage, outgoing: ServerResponse) => boolean;
};

type Session = { readonly server: Server; readonly transport: StreamableHTTPServerTransport | SSEServerTransport };

const ok: CallToolResult = { content: [{ type: "text", text: "ok" }] };
const ANYTHING = { type: "object" };

/** An MCP server on loopback, made with the official SDK, whose tools do what the test says. */
export const startMcpServer = async (options: McpTestServerOptions): Promise<McpTestServer> => {
  let tools = options.tools;
  const open = new Map<string, Session>();
  const outgoing = new Map<string, ServerResponse>();
  const requests: { method: string; headers: IncomingMessage["headers"] }[] = [];
  const sessions: string[] = [];
  const ended: string[] = [];
  const calls: string[] = [];

  const describeTool = ({ run: _run, ...tool }: McpTestTool) => ({ inputSchema: ANYTHING, ...tool });

  const buildServer = (answers: () => ServerResponse | undefined): Server => {
    const server = new Server(
      { name: "test", version: "1" },
      {
        capabilities: {
          tools: { listChanged: true },
          logging: {},
          ...(options.resources && { resources: {} }),
          ...(options.prompts && { prompts: {} }),
        },
      },
    );
    // The SDK's own types would not let a server lie.
    server.setRequestHandler(ListToolsRequestSchema, async () => ({ tools: tools.map(describeTool) as never }));
    server.setRequestHandler(CallToolRequestSchema, async ({ params }, extra) => {
      calls.push(params.name);
      const response = answers();
      const tool = tools.find(({ name }) => name === params.name);
      if (tool === undefined) throw new Error(`There is no tool ${params.name}`);
      if (tool.run === undefined) return ok;
      const { progressToken = 0 } = extra._meta ?? {};
      return tool.run(params.arguments ?? {}, {
        signal: extra.signal,
        sessionId: extra.sessionId,
        progress: (progress, total, message) =>
          extra.sendNotification({
            method: "notifications/progress",
            params: { progressToken, progress, total, message },
          }),
        log: (message) =>
          extra.sendNotification({ method: "notifications/message", params: { level: "info", data: message } }),
        die: () => response?.destroy(),
      });
    });
    if (options.resources !== undefined) {
      const { resources } = options;
      server.setRequestHandler(ListResourcesRequestSchema, async () => ({
        resources: Object.keys(resources).map((uri) => ({ uri, name: uri })),
      }));
      server.setRequestHandler(ReadResourceRequestSchema, async ({ params }) => ({
        contents: [{ uri: params.uri, mimeType: "text/plain", text: resources[params.uri] ?? "" }],
      }));
    }
    if (options.prompts !== undefined) {
      const { prompts } = options;
      server.setRequestHandler(ListPromptsRequestSchema, async () => ({
        prompts: Object.keys(prompts).map((name) => ({ name })),
      }));
      server.setRequestHandler(GetPromptRequestSchema, async ({ params }) => ({
        messages: [{ role: "user", content: { type: "text", text: prompts[params.name] ?? "" } }],
      }));
    }
    return server;
  };

  const beginSession = async (): Promise<StreamableHTTPServerTransport> => {
    let sessionId = "";
    const transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: () => randomUUID(),
      onsessioninitialized: (id) => {
        sessionId = id;
        sessions.push(id);
        open.set(id, { server, transport });
      },
      onsessionclosed: (id) => {
        ended.push(id);
        open.delete(id);
      },
    });
    const server = buildServer(() => outgoing.get(sessionId));
    await server.connect(transport);
    return transport;
  };

  const handleStreamable = async (incoming: IncomingMessage, response: ServerResponse): Promise<void> => {
    const id = incoming.headers["mcp-session-id"];
    const known = typeof id === "string" ? open.get(id)?.transport : await beginSession();
    if (!(known instanceof StreamableHTTPServerTransport)) {
      response.writeHead(404).end();
      return;
    }
    if (typeof id === "string" && incoming.method === "POST") outgoing.set(id, response);
    await known.handleRequest(incoming, response);
  };

  const handleSse = async (incoming: IncomingMessage, response: ServerResponse): Promise<void> => {
    if (incoming.method === "GET") {
      const transport = new SSEServerTransport("/messages", response);
      const server = buildServer(() => response);
      open.set(transport.sessionId, { server, transport });
      sessions.push(transport.sessionId);
      response.once("close", () => open.delete(transport.sessionId));
      await server.connect(transport);
      return;
    }
    const id = new URL(incoming.url ?? "", "http://x").searchParams.get("sessionId") ?? "";
    const transport = open.get(id)?.transport;
    if (transport instanceof SSEServerTransport) await transport.handlePostMessage(incoming, response);
    else response.writeHead(404).end();
  };

  const http = createServer((incoming, response) => {
    requests.push({ method: incoming.method ?? "", headers: incoming.headers });
    if (options.intercept?.(incoming, response) === true) return;
    const handle = incoming.url?.startsWith("/mcp") === true ? handleStreamable : handleSse;
    handle(incoming, response).catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => {
    http.listen(0, "127.0.0.1", resolve);
  });
  const address = http.address();
  if (address === null || typeof address === "string") throw new Error("The MCP server has no port.");
  const origin = `http://127.0.0.1:${address.port}`;
  return {
    url: `${origin}/mcp`,
    sseUrl: `${origin}/sse`,
    requests,
    sessions,
    ended,
    calls,
    setTools: async (next, how) => {
      tools = next;
      if (how?.silently === true) return;
      await Promise.all([...open.values()].map(({ server }) => server.sendToolListChanged()));
    },
    forgetSessions: () => open.clear(),
    close: async () => {
      const closed = new Promise<void>((resolve) => {
        http.close(() => resolve());
      });
      http.closeAllConnections();
      await closed;
    },
  };
};
