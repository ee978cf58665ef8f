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
    together.hold();
    for await (const event of events) {
      if (response.destroyed) return;
      together.hold();
      if (response.write(`data: ${event}\n\n`)) continue;
      await drained(response);
    }
  } finally {
    clearInterval(keepAlive);
    // Node sends the end of a chunked body before what is still held back: so the latter first, in the same packet.
    response.socket?.cork();
    together.release();
    response.end();
  }
};

const createCork = (response: ServerResponse): { readonly hold: () => void; readonly release: () => void } => {
  let held: NodeJS.Immediate | undefined;
  const release = (): void => {
    if (held === undefined) return;
    clearImmediate(held);
    held = undefined;
    if (!response.headersSent) response.flushHeaders();
    response.uncork();
  };
  const hold = (): void => {
    if (held !== undefined) return;
    response.cork();
    held = setImmediate(release);
  };
  return { hold, release };
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
