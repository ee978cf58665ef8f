import type { ServerResponse } from "node:http";

const KEEP_ALIVE_MS = 15_000;
/** What comes in one go is written in pieces of about this size. */
const PIECE_CHARS = 16_000;

/**
 * Writes server-sent events, one line of JSON each, as fast as the reader takes them: what it has not taken is not asked
 * for, so an open stream holds no more than a piece. Comment lines keep idle connections open.
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
  // Headers and events leave together once this turn of the event loop is over: a piece is one chunk and one packet.
  let piece = "";
  const send = (): void => {
    clearImmediate(held);
    held = undefined;
    if (piece === "") response.flushHeaders();
    else response.write(piece);
    piece = "";
  };
  let held: NodeJS.Immediate | undefined = setImmediate(send);
  try {
    for await (const event of events) {
      if (response.destroyed) return;
      piece += `data: ${event}\n\n`;
      held ??= setImmediate(send);
      if (piece.length >= PIECE_CHARS) send();
      if (response.writableNeedDrain) await drained(response);
    }
  } finally {
    clearInterval(keepAlive);
    clearImmediate(held);
    response.end(piece);
  }
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
