import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from "node:http";

import { wireAnswer, wireError, wireStreamError, type ModelAnswer, type Wire } from "./model-wire.ts";

/** One step of a model server's script; requests take them in order. */
export type ModelReply =
  | (ModelAnswer & {
      /** Instead of the ending: the connection is cut, the answer ends early, the provider reports an error, or nothing more comes. */
      readonly ending?: "cut" | "end" | "error" | "hold";
      /** Where the ending is not the ordinary one: the provider counts its tokens before it. */
      readonly counted?: boolean;
      /** Where the ending is not the ordinary one: how many of the pieces arrive before it; default all. */
      readonly pieces?: number;
      /** Everything goes out in writes of so many bytes, as a network may cut it. */
      readonly bytesPerWrite?: number;
      /** Waited for before the headers. */
      readonly before?: Promise<unknown>;
      /** Waited for between the pieces and the ending. */
      readonly between?: Promise<unknown>;
    })
  | { readonly hold: "headers" | "first-token" }
  | {
      readonly status: number;
      readonly headers?: Readonly<Record<string, string>>;
      readonly type?: string;
      readonly message?: string;
      /** Instead of the provider's form of an error. */
      readonly body?: string;
    };

export type ModelServerRequest = {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  /** The JSON that was sent. */
  readonly body: unknown;
  /** Resolves when the connection is over, whoever ended it. */
  readonly closed: Promise<void>;
};

export type ModelServer = {
  /** For a provider's settings: ends with `/v1`. */
  readonly baseUrl: string;
  readonly requests: readonly ModelServerRequest[];
  /** Resolves with the request of this number, counted from 1, once it has arrived. */
  readonly request: (number: number) => Promise<ModelServerRequest>;
  readonly close: () => Promise<void>;
};

const OVERLOADED = { type: "overloaded_error", message: "Overloaded" };

const readBody = async (incoming: IncomingMessage): Promise<unknown> => {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(Buffer.from(chunk));
  return JSON.parse(Buffer.concat(chunks).toString() || "null");
};

const writeSlices = async (outgoing: ServerResponse, bytes: Buffer, size: number): Promise<void> => {
  for (let at = 0; at < bytes.length; at += size) {
    await new Promise<void>((resolve) => {
      outgoing.write(bytes.subarray(at, at + size), () => setImmediate(resolve));
    });
  }
};

const play = async (wire: Wire, reply: ModelReply, outgoing: ServerResponse): Promise<void> => {
  if ("status" in reply) {
    const { type = "error", message = "as the test says" } = reply;
    outgoing.writeHead(reply.status, { "content-type": "application/json", ...reply.headers });
    outgoing.end(reply.body ?? wireError(wire, { type, message }));
    return;
  }
  if ("hold" in reply) {
    if (reply.hold === "first-token") outgoing.writeHead(200, { "content-type": "text/event-stream" }).flushHeaders();
    return;
  }
  await reply.before;
  const { pieces, usage, ending } = wireAnswer(wire, reply);
  outgoing.writeHead(200, { "content-type": "text/event-stream" });
  const sent = [...pieces.slice(0, reply.pieces), ...(reply.counted ? usage : [])].join("");
  if (reply.bytesPerWrite === undefined) outgoing.write(sent);
  else await writeSlices(outgoing, Buffer.from(sent), reply.bytesPerWrite);
  await reply.between;
  switch (reply.ending) {
    case undefined:
      outgoing.end(ending.join(""));
      return;
    case "end":
      outgoing.end();
      return;
    case "error":
      outgoing.end(wireStreamError(wire, OVERLOADED));
      return;
    case "cut":
      // The pieces are on their way before the connection breaks.
      outgoing.write("", () => outgoing.destroy());
      return;
    case "hold":
      return;
  }
};

/** A model provider on loopback that speaks OpenAI's or Anthropic's streaming format and does what the test scripted. */
export const startModelServer = async (options: {
  readonly wire: Wire;
  /** In the order of the requests, or decided by the request: its number counts from 1. */
  readonly replies: readonly ModelReply[] | ((request: ModelServerRequest, number: number) => ModelReply);
}): Promise<ModelServer> => {
  const requests: ModelServerRequest[] = [];
  const scripted = typeof options.replies === "function" ? [] : options.replies;
  const arrivals = scripted.map(() => Promise.withResolvers<ModelServerRequest>());
  const replies = [...scripted];
  const decide = typeof options.replies === "function" ? options.replies : () => replies.shift();

  const handle = async (incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> => {
    const closed = new Promise<void>((resolve) => {
      outgoing.once("close", resolve);
    });
    const body = await readBody(incoming);
    const request = { path: incoming.url ?? "", headers: incoming.headers, body, closed };
    requests.push(request);
    const reply = decide(request, requests.length) ?? { status: 418, message: "The test scripted no more replies." };
    arrivals[requests.length - 1]?.resolve(request);
    await play(options.wire, reply, outgoing);
  };

  const server = createServer((incoming, outgoing) => {
    handle(incoming, outgoing).catch(() => outgoing.destroy());
  });
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("The model server has no port.");
  return {
    baseUrl: `http://127.0.0.1:${address.port}/v1`,
    requests,
    request: async (number) => {
      const arrival = arrivals[number - 1];
      if (!arrival) throw new Error(`No reply is scripted for request ${number}.`);
      return arrival.promise;
    },
    close: async () => {
      const closed = new Promise<void>((resolve) => {
        server.close(() => resolve());
      });
      server.closeAllConnections();
      await closed;
    },
  };
};
