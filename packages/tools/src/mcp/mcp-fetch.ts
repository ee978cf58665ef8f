import { unwrap } from "@shaman/kernel";
import { conceal, type Outbound, type OutboundFetch } from "@shaman/outbound";
import type { McpLimits } from "./mcp-limits.ts";
import type { HttpTarget } from "./mcp-target.ts";

/** How the answer to a request over HTTP ended. `resumable`: its events had ids, so that the SDK may ask for the rest. */
export type AnswerEnd = { readonly error?: unknown; readonly resumable: boolean };

export type McpFetchDeps = {
  readonly outbound: Pick<Outbound, "fetchWith">;
  readonly limits: McpLimits;
  /** The stream that carried the answer to this request is over. */
  readonly onAnswerEnd: (requestId: string | number, end: AnswerEnd) => void;
};

export type McpFetch = {
  readonly fetch: OutboundFetch;
  /** Stops reading the answer to a request that nobody waits for any more. */
  readonly abort: (requestId: string | number) => void;
};

const DELETE_TIMEOUT_MS = 3_000;
const STREAM_TIMEOUT_MS = 30 * 60_000;
/** A stream of the server's own messages lives long and says little. */
const STREAM_ANSWERS = 4;
/** A server that ends its stream of messages again and again must not keep us busy. */
const MAX_STREAMS = 20;

/** The id of the JSON-RPC request in a body, if it is one. */
const requestIdOf = (body: unknown): string | number | undefined => {
  if (typeof body !== "string") return undefined;
  const message: unknown = JSON.parse(body);
  if (typeof message !== "object" || message === null || !("id" in message) || !("method" in message)) return undefined;
  return typeof message.id === "string" || typeof message.id === "number" ? message.id : undefined;
};

/** The same answer, whose end is told. */
const watched = (answer: Response, onEnd: (end: AnswerEnd) => void): Response => {
  const { body } = answer;
  if (body === null || answer.headers.get("content-type")?.startsWith("text/event-stream") !== true) return answer;
  const reader = body.getReader();
  let resumable = false;
  const stream = new ReadableStream<Uint8Array>({
    pull: async (controller) => {
      try {
        const { done, value } = await reader.read();
        if (done) {
          controller.close();
          onEnd({ resumable });
          return;
        }
        resumable ||= /^id:/m.test(Buffer.from(value).toString("latin1"));
        controller.enqueue(value);
      } catch (error) {
        controller.error(error);
        onEnd({ error, resumable });
      }
    },
    cancel: (reason) => reader.cancel(reason),
  });
  const copy = new Response(stream, answer);
  Object.defineProperty(copy, "url", { value: answer.url });
  return copy;
};

/** The `fetch` of one connection: guarded, capped, and carrying the credential to the server's own origin only. */
export const createMcpFetch = (deps: McpFetchDeps, target: HttpTarget): McpFetch => {
  const { outbound, limits } = deps;
  const { maxAnswerBytes } = limits;
  const forCalls = outbound.fetchWith({ timeoutMs: limits.callTimeoutMs, maxBytes: maxAnswerBytes });
  const forStreams = outbound.fetchWith({ timeoutMs: STREAM_TIMEOUT_MS, maxBytes: STREAM_ANSWERS * maxAnswerBytes });
  const forEnds = outbound.fetchWith({ timeoutMs: DELETE_TIMEOUT_MS, maxBytes: maxAnswerBytes });
  const { origin } = new URL(target.url);
  const running = new Map<string | number, AbortController>();
  let streams = 0;

  const send = async (url: string, init: RequestInit, signal: AbortSignal): Promise<Response> => {
    const { method } = init;
    const fetch = method === "DELETE" ? forEnds : method === "POST" ? forCalls : forStreams;
    const headers = new Headers(init.headers);
    const isOwn = new URL(url).origin === origin;
    if (!isOwn) return fetch(url, { ...init, headers, signal });
    for (const [name, value] of Object.entries(target.headers)) headers.set(name, value);
    const credentials = Object.values(target.headers);
    const { accessToken } = target;
    if (accessToken === undefined) return conceal(await fetch(url, { ...init, headers, signal }), credentials);
    const token = unwrap(await accessToken({ signal }));
    headers.set("authorization", `Bearer ${token}`);
    const answer = await fetch(url, { ...init, headers, signal });
    if (answer.status !== 401) return conceal(answer, [...credentials, token]);
    await answer.body?.cancel();
    const renewed = unwrap(await accessToken({ refused: token, signal }));
    headers.set("authorization", `Bearer ${renewed}`);
    return conceal(await fetch(url, { ...init, headers, signal }), [...credentials, token, renewed]);
  };

  return {
    abort: (requestId) => running.get(requestId)?.abort(),
    fetch: async (input, init = {}) => {
      const url = input instanceof Request ? input.url : String(input);
      if (init.method === undefined || init.method === "GET") {
        streams += 1;
        if (streams > MAX_STREAMS) return new Response(null, { status: 405 });
      }
      const requestId = init.method === "POST" ? requestIdOf(init.body) : undefined;
      const own = new AbortController();
      const signal = init.signal ? AbortSignal.any([init.signal, own.signal]) : own.signal;
      if (requestId === undefined) return send(url, init, signal);
      running.set(requestId, own);
      let isStreaming = false;
      try {
        const answer = watched(await send(url, init, signal), (end) => {
          running.delete(requestId);
          deps.onAnswerEnd(requestId, end);
        });
        isStreaming = answer.headers.get("content-type")?.startsWith("text/event-stream") === true;
        return answer;
      } finally {
        if (!isStreaming) running.delete(requestId);
      }
    },
  };
};
