// oxlint-disable unicorn/prefer-add-event-listener -- the SDK's objects have one listener each and are no event targets
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js";
import {
  CallToolResultSchema,
  LoggingMessageNotificationSchema,
  ToolListChangedNotificationSchema,
  ToolSchema,
  type CallToolResult,
  type ClientRequest,
  type ServerCapabilities,
} from "@modelcontextprotocol/sdk/types.js";
import { abortAfter, AppError, type Json, type JsonObject } from "@shaman/kernel";
import { z } from "zod";
import type { ToolContext, ToolNotice } from "../tool.ts";
import type { McpLimits } from "./mcp-limits.ts";
import { untilAborted } from "./until-aborted.ts";

/** A tool as the server describes it: what a model is told, and what the platform goes by. */
export type McpToolDescription = {
  readonly name: string;
  readonly description: string;
  readonly inputSchema: JsonObject;
  readonly outputSchema?: JsonObject;
  readonly annotations: { readonly readOnlyHint?: boolean; readonly idempotentHint?: boolean };
  /** All that a change of it would be noticed by. */
  readonly definition: JsonObject;
};

export type McpToolList = {
  readonly tools: readonly McpToolDescription[];
  /** Entries that are no tools, or none that can be called here, each a sentence. */
  readonly problems: readonly string[];
};

/** One open session with one server. */
export type McpConnection = {
  readonly capabilities: ServerCapabilities;
  readonly isOpen: () => boolean;
  /** The server's tools. The list is the same object until it was read anew: when the server said so, or after a minute. */
  readonly listTools: (signal: AbortSignal) => Promise<McpToolList>;
  readonly callTool: (name: string, input: JsonObject, context: ToolContext) => Promise<CallToolResult>;
  readonly request: <T>(request: ClientRequest, schema: z.ZodType<T>, context: ToolContext) => Promise<T>;
  readonly close: () => Promise<void>;
};

const MAX_PAGES = 20;
const MAX_TOOLS = 500;
const MAX_NOTICES = 200;
const MAX_NOTICE_CHARS = 2_000;
/** Not every server tells of changes. */
const LIST_TTL_MS = 60_000;
const CLOSE_TIMEOUT_MS = 5_000;

const jsonObject = z.record(z.string(), z.json());

/** Each tool by itself, so that one that is not as MCP prescribes does not take the others with it. */
const listResult = z.looseObject({ tools: z.array(z.unknown()), nextCursor: z.string().optional() });
type ListResult = z.infer<typeof listResult>;

const describe = (tool: z.infer<typeof ToolSchema>): McpToolDescription => {
  const { name, title, description, inputSchema, outputSchema, annotations } = tool;
  const definition = jsonObject.parse(
    JSON.parse(JSON.stringify({ title, description, inputSchema, outputSchema, annotations })),
  );
  const { readOnlyHint, idempotentHint } = annotations ?? {};
  return {
    name,
    description: description ?? title ?? "",
    inputSchema: jsonObject.parse(definition["inputSchema"]),
    ...(outputSchema !== undefined && { outputSchema: jsonObject.parse(definition["outputSchema"]) }),
    annotations: {
      ...(readOnlyHint !== undefined && { readOnlyHint }),
      ...(idempotentHint !== undefined && { idempotentHint }),
    },
    definition,
  };
};

/** At most so many notices a call, each of bounded length: a server must not fill a run with its talk. */
const bounded = (notice: ToolContext["notice"]): ToolContext["notice"] => {
  let left = MAX_NOTICES;
  return (given) => {
    left -= 1;
    if (left < 0) return;
    const isLast = left === 0;
    if (isLast) {
      notice({ kind: "log", level: "warning", message: "The server has more to say, which is left out." });
      return;
    }
    const { message } = given;
    if (message === undefined || message.length <= MAX_NOTICE_CHARS) notice(given);
    else notice({ ...given, message: `${message.slice(0, MAX_NOTICE_CHARS)}…` });
  };
};

const logMessage = (data: Json): string => (typeof data === "string" ? data : JSON.stringify(data));

const noValidation = (): never => {
  throw new Error("Output is validated by Shaman's own validator");
};

/** Opens a session: handshake included, within the time for it. Rejects with what went wrong. */
export const connectMcp = async (
  deps: { readonly transport: Transport; readonly limits: McpLimits; readonly version: string },
  signal: AbortSignal,
): Promise<McpConnection> => {
  const { transport, limits } = deps;
  const client = new Client(
    { name: "shaman", version: deps.version },
    // Without this the SDK makes code of each server's schemas.
    { capabilities: {}, jsonSchemaValidator: { getValidator: noValidation } },
  );
  const running = new Set<(notice: ToolNotice) => void>();
  let isOpen = true;
  let listUntil = 0;
  client.onclose = () => {
    isOpen = false;
  };
  // What breaks is seen by the request that it breaks.
  client.onerror = () => undefined;
  client.setNotificationHandler(ToolListChangedNotificationSchema, () => {
    listUntil = 0;
  });
  client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) => {
    // A log message names no request. With several at work it is told to none rather than to the wrong one.
    if (running.size !== 1) return;
    const message = logMessage(z.json().catch(null).parse(params.data));
    for (const notice of running) notice({ kind: "log", level: params.level, message });
  });

  const close = async (): Promise<void> => {
    isOpen = false;
    const deadline = abortAfter(CLOSE_TIMEOUT_MS);
    await untilAborted(client.close(), deadline.signal).catch(() => undefined);
    deadline.clear();
  };
  await handshake({ client, transport, timeoutMs: limits.connectTimeoutMs }, signal).catch(async (error: unknown) => {
    await transport.close().catch(() => undefined);
    throw error;
  });

  const request = async <T>(message: ClientRequest, schema: z.ZodType<T>, context: ToolContext): Promise<T> => {
    const notice = bounded(context.notice);
    running.add(notice);
    try {
      return await client.request(message, schema, {
        signal: context.signal,
        timeout: limits.silenceTimeoutMs,
        maxTotalTimeout: limits.callTimeoutMs,
        resetTimeoutOnProgress: true,
        onprogress: ({ progress, total, message: text }) =>
          notice({
            kind: "progress",
            progress,
            ...(total !== undefined && { total }),
            ...(text !== undefined && { message: text }),
          }),
      });
    } finally {
      running.delete(notice);
    }
  };
  const quiet = (until: AbortSignal): ToolContext => ({ signal: until, notice: () => undefined });

  if (client.getServerCapabilities()?.logging !== undefined) {
    const params = { level: "info" as const };
    const level = { method: "logging/setLevel" as const, params };
    await request(level, z.looseObject({}), quiet(signal)).catch(() => undefined);
  }

  let listed: McpToolList | undefined;
  let reading: Promise<McpToolList> | undefined;
  const readList = async (): Promise<McpToolList> => {
    // Before it is read: a change that is told meanwhile counts for the next reading.
    listUntil = Date.now() + LIST_TTL_MS;
    try {
      // Not with a caller's signal: several runs may wait for the same reading.
      listed = await readTools((message) => request(message, listResult, quiet(signal)));
      return listed;
    } catch (error) {
      listUntil = 0;
      throw error;
    } finally {
      reading = undefined;
    }
  };

  return {
    capabilities: client.getServerCapabilities() ?? {},
    isOpen: () => isOpen,
    listTools: async (until) => {
      if (reading === undefined && listed !== undefined && Date.now() < listUntil) return listed;
      reading ??= readList();
      return untilAborted(reading, until);
    },
    callTool: (name, input, context) =>
      request({ method: "tools/call", params: { name, arguments: input } }, CallToolResultSchema, context),
    request,
    close,
  };
};

const handshake = async (
  deps: { readonly client: Client; readonly transport: Transport; readonly timeoutMs: number },
  signal: AbortSignal,
): Promise<void> => {
  const deadline = abortAfter(deps.timeoutMs, signal);
  try {
    const connected = deps.client.connect(deps.transport, { timeout: deps.timeoutMs, signal: deadline.signal });
    await untilAborted(connected, deadline.signal);
  } catch (error) {
    if (!deadline.timedOut()) throw error;
    throw new AppError({
      code: "mcp_connect_timed_out",
      kind: "operational",
      message: `The server was not ready within ${deps.timeoutMs} ms.`,
      cause: error,
    });
  } finally {
    deadline.clear();
  }
};

type ListTools = { readonly method: "tools/list"; readonly params?: { readonly cursor: string } };

const readTools = async (list: (request: ListTools) => Promise<ListResult>): Promise<McpToolList> => {
  const tools = new Map<string, McpToolDescription>();
  const problems: string[] = [];
  let cursor: string | undefined;
  for (let page = 0; page < MAX_PAGES; page += 1) {
    const answer = await list({ method: "tools/list", ...(cursor !== undefined && { params: { cursor } }) });
    for (const entry of answer.tools) {
      const tool = ToolSchema.safeParse(entry);
      if (!tool.success) problems.push(`describes the tool ${nameOf(entry)} not as MCP prescribes`);
      else if (tool.data.execution?.taskSupport === "required") {
        problems.push(`offers the tool ${nameOf(entry)} as a task only, which is not supported`);
      } else if (tools.has(tool.data.name)) problems.push(`offers the tool ${nameOf(entry)} twice`);
      else if (tools.size >= MAX_TOOLS) return { tools: [...tools.values()], problems: [...problems, TOO_MANY] };
      else tools.set(tool.data.name, describe(tool.data));
    }
    cursor = answer.nextCursor;
    if (cursor === undefined) return { tools: [...tools.values()], problems };
  }
  return { tools: [...tools.values()], problems: [...problems, TOO_MANY] };
};

const TOO_MANY = `offers more than ${MAX_TOOLS} tools or ${MAX_PAGES} pages of them; the rest is left out`;

const namedEntry = z.looseObject({ name: z.string() });

const nameOf = (entry: unknown): string => {
  const named = namedEntry.safeParse(entry);
  return named.success ? JSON.stringify(named.data.name.slice(0, 100)) : "without a name";
};
