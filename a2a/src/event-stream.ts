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
  const keepAlive = setInterval(() => void response.write(": keep-alive\n\n"), KEEP_ALIVE_MS);
  // What comes in one go leaves in one packet: headers and events are written together once this turn is over.
  const together = createCork(response);
  try {
    together();
    for await (const event of events) {
      if (response.destroyed) return;
      together();
      if (response.write(`data: ${event}\n\n`)) continue;
      await drained(response);
    }
  } finally {
    clearInterval(keepAlive);
    together();
    response.end();
  }
};

const createCork = (response: ServerResponse): (() => void) => {
  let corked = false;
  return () => {
    if (corked) return;
    corked = true;
    response.cork();
    setImmediate(() => {
      corked = false;
      if (!response.headersSent) response.flushHeaders();
      response.uncork();
    });
  };
};

const drained = (response: ServerResponse): Promise<void> =>
  new Promise((resolve) => {
    const done = (): void => {
      response.off("drain", done);
      response.off("close", done);
      resolve();
    };
    response.on("drain", done);
    response.on("close", done);
  });
