// oxlint-disable unicorn/prefer-add-event-listener -- the SDK's objects have one listener each and are no event targets
import { SSEClientTransport, SseError } from "@modelcontextprotocol/sdk/client/sse.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js";
import {
  CancelledNotificationSchema,
  ErrorCode,
  isJSONRPCErrorResponse,
  isJSONRPCRequest,
  isJSONRPCResultResponse,
  type JSONRPCMessage,
  type RequestId,
} from "@modelcontextprotocol/sdk/types.js";
import { AppError, ok } from "@shaman/kernel";
import { createMcpFetch, type AnswerEnd, type McpFetch, type McpFetchDeps } from "./mcp-fetch.ts";
import type { HttpTarget, OpenTransport } from "./mcp-target.ts";

const RECONNECTION = {
  initialReconnectionDelay: 500,
  maxReconnectionDelay: 5_000,
  reconnectionDelayGrowFactor: 2,
  maxRetries: 2,
};

const answeredId = (message: JSONRPCMessage): RequestId | undefined =>
  isJSONRPCResultResponse(message) || isJSONRPCErrorResponse(message) ? message.id : undefined;

const sentenceOf = ({ error }: AnswerEnd): string =>
  error instanceof AppError ? error.message : "The server ended its answer before it was complete.";

type Inner = StreamableHTTPClientTransport | SSEClientTransport;

/**
 * The SDK's transport, with what it leaves open closed: a request whose answer stream ended without the answer fails at
 * once, a canceled request is no longer read, and a lost SSE connection is over instead of being opened for ever.
 */
const complete = (inner: Inner, mcpFetch: McpFetch, onEnd: (listener: McpFetchDeps["onAnswerEnd"]) => void) => {
  const waiting = new Set<RequestId>();
  const failWaiting = (id: RequestId, message: string): void => {
    if (!waiting.delete(id)) return;
    transport.onmessage?.({ jsonrpc: "2.0", id, error: { code: ErrorCode.ConnectionClosed, message } });
  };
  onEnd((id, end) => {
    // The events that were read before the end are still on their way through the SDK's parser.
    if (end.resumable && end.error === undefined) return;
    setImmediate(() => setImmediate(() => failWaiting(id, sentenceOf(end))));
  });
  const transport: Transport = {
    get sessionId() {
      return inner instanceof StreamableHTTPClientTransport ? inner.sessionId : undefined;
    },
    setProtocolVersion: (version) => inner.setProtocolVersion(version),
    start: async () => {
      inner.onmessage = (message: JSONRPCMessage) => {
        const id = answeredId(message);
        if (id !== undefined) waiting.delete(id);
        transport.onmessage?.(message);
      };
      inner.onclose = () => transport.onclose?.();
      inner.onerror = (error) => {
        transport.onerror?.(error);
        if (error instanceof SseError) void inner.close();
      };
      await inner.start();
    },
    send: async (message) => {
      if (isJSONRPCRequest(message)) waiting.add(message.id);
      try {
        await inner.send(message);
      } catch (error) {
        if (isJSONRPCRequest(message)) waiting.delete(message.id);
        throw error;
      } finally {
        const { requestId } = CancelledNotificationSchema.safeParse(message).data?.params ?? {};
        if (requestId !== undefined) {
          waiting.delete(requestId);
          mcpFetch.abort(requestId);
        }
      }
    },
    close: async () => {
      if (inner instanceof StreamableHTTPClientTransport) {
        // A server that does not end the session on request will do so by itself.
        await inner.terminateSession().catch(() => undefined);
      }
      await inner.close();
    },
  };
  return transport;
};

/** Transports over HTTP; every request goes through outbound. */
export const createHttpTransports =
  (deps: Omit<McpFetchDeps, "onAnswerEnd">): OpenTransport<HttpTarget> =>
  async (target) => {
    let onAnswerEnd: McpFetchDeps["onAnswerEnd"] = () => undefined;
    const mcpFetch = createMcpFetch({ ...deps, onAnswerEnd: (id, end) => onAnswerEnd(id, end) }, target);
    const url = new URL(target.url);
    const inner =
      target.kind === "sse"
        ? new SSEClientTransport(url, { fetch: mcpFetch.fetch })
        : new StreamableHTTPClientTransport(url, { fetch: mcpFetch.fetch, reconnectionOptions: RECONNECTION });
    return ok(
      complete(inner, mcpFetch, (listener) => {
        onAnswerEnd = listener;
      }),
    );
  };
