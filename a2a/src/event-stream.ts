import type { ServerResponse } from "node:http";

const KEEP_ALIVE_MS = 15_000;
/** What comes in one go is written in pieces of about this many characters. */
const PIECE_CHARS = 16_000;

/**
 * Writes server-sent events, one line of JSON each, as fast as the reader takes them: while it takes none, no more are
 * asked for, so that an open stream holds a piece and what Node and the system buffer. Comment lines keep idle connections
 * open. Where the events break off, so does the response, without its end.
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
  let isWhole = false;
  try {
    for await (const event of events) {
      if (response.destroyed) return;
      piece += `data: ${event}\n\n`;
      held ??= setImmediate(send);
      if (piece.length >= PIECE_CHARS) send();
      if (response.writableNeedDrain) await drained(response);
    }
    isWhole = true;
  } finally {
    clearInterval(keepAlive);
    clearImmediate(held);
    if (isWhole) response.end(piece);
    else if (piece === "" || response.writableNeedDrain) response.destroy();
    else response.write(piece, () => response.destroy());
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
