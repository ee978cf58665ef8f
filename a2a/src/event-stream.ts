import { once } from "node:events";
import type { ServerResponse } from "node:http";

const KEEP_ALIVE_MS = 15_000;

/**
 * Writes server-sent events, one line of JSON each, as fast as the reader takes them: what it has not taken is not asked
 * for, so an open stream holds no more than one event. Comment lines keep idle connections open.
 */
export const writeEventStream = async (
  response: ServerResponse,
  events: AsyncIterable<string>,
  headers: Readonly<Record<string, string>> = {},
): Promise<void> => {
  response.writeHead(200, {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
    ...headers,
  });
  response.flushHeaders();
  const closed = new AbortController();
  response.once("close", () => closed.abort());
  const keepAlive = setInterval(() => void response.write(": keep-alive\n\n"), KEEP_ALIVE_MS);
  try {
    for await (const event of events) {
      if (response.destroyed) return;
      if (response.write(`data: ${event}\n\n`)) continue;
      await once(response, "drain", { signal: closed.signal }).catch(() => undefined);
    }
  } finally {
    clearInterval(keepAlive);
    response.end();
  }
};
