import { randomUUID } from "node:crypto";
import type { Dispatcher, Pool } from "undici";
import type { Caller, Endpoint } from "./protocol.ts";

const REQUEST_TIMEOUT_MS = 60_000;

// Distinguishes the messages of one generator from those of every other one that ever ran against the same database.
const session = randomUUID();

const bodyOf = (method: string, endpoint: Endpoint, serial: number): string =>
  JSON.stringify({
    jsonrpc: "2.0",
    id: serial,
    method,
    params: {
      message: { messageId: `${session}-${serial}`, role: "ROLE_USER", parts: [{ text: endpoint.prompt }] },
    },
  });

const callerOf = (endpoint: Endpoint, serial: number): Caller => {
  const caller = endpoint.callers[serial % endpoint.callers.length];
  if (caller === undefined) throw new Error("an endpoint needs a caller");
  return caller;
};

const post = (
  pool: Pool,
  endpoint: Endpoint,
  call: { readonly serial: number; readonly method: string; readonly accept: string },
): Promise<Dispatcher.ResponseData> => {
  const caller = callerOf(endpoint, call.serial);
  return pool.request({
    method: "POST",
    path: caller.path,
    headers: {
      host: caller.host,
      "content-type": "application/json",
      accept: call.accept,
      authorization: `Bearer ${caller.token}`,
      "a2a-version": "1.0",
    },
    body: bodyOf(call.method, endpoint, call.serial),
    headersTimeout: REQUEST_TIMEOUT_MS,
    bodyTimeout: REQUEST_TIMEOUT_MS,
  });
};

const explain = (what: string, text: string): Error => new Error(`${what}: ${text.slice(0, 500)}`);

/** Sends one blocking message and throws unless a completed task with the expected text comes back. */
export const sendMessage = async (pool: Pool, endpoint: Endpoint, serial: number): Promise<void> => {
  const response = await post(pool, endpoint, { serial, method: "SendMessage", accept: "application/json" });
  const text = await response.body.text();
  if (response.statusCode !== 200) throw explain(`HTTP ${response.statusCode}`, text);
  if (!text.includes('"TASK_STATE_COMPLETED"') || !text.includes(endpoint.expect)) {
    throw explain("wrong answer", text);
  }
};

/** The events of one stream as they came, without the lines around them. */
export type StreamedEvents = { readonly events: readonly string[]; readonly firstChunkAtMs: number };

const CHUNK = '"artifactUpdate"';

/** Sends one streaming message and reads its server-sent events to the end. Throws unless the task completes. */
export const sendStreamingMessage = async (pool: Pool, endpoint: Endpoint, serial: number): Promise<StreamedEvents> => {
  const response = await post(pool, endpoint, { serial, method: "SendStreamingMessage", accept: "text/event-stream" });
  if (response.statusCode !== 200) throw explain(`HTTP ${response.statusCode}`, await response.body.text());
  const events: string[] = [];
  const decoder = new TextDecoder();
  let rest = "";
  let firstChunkAtMs = Number.NaN;
  for await (const bytes of response.body) {
    const parts = (rest + decoder.decode(bytes, { stream: true })).split(/\r?\n\r?\n/);
    rest = parts.pop() ?? "";
    for (const part of parts) {
      if (!part.includes("data:")) continue;
      if (Number.isNaN(firstChunkAtMs) && part.includes(CHUNK)) firstChunkAtMs = performance.now();
      events.push(part);
    }
  }
  const last = events.at(-1) ?? rest;
  if (!last.includes('"TASK_STATE_COMPLETED"')) throw explain("stream ended without completion", last);
  return { events, firstChunkAtMs };
};

const dataOf = (event: string): string =>
  event
    .split(/\r?\n/)
    .filter((line) => line.startsWith("data:"))
    .map((line) => line.slice("data:".length))
    .join("\n");

const textOf = (value: unknown): number => {
  if (Array.isArray(value)) return value.reduce<number>((sum, each) => sum + textOf(each), 0);
  if (typeof value !== "object" || value === null) return 0;
  return Object.entries(value).reduce(
    (sum, [key, each]) => sum + (key === "text" && typeof each === "string" ? each.length : textOf(each)),
    0,
  );
};

/** Counts artifact events and the characters of text in them; done after the clock stopped. */
export const countChunks = (stream: StreamedEvents): { readonly events: number; readonly characters: number } => {
  const chunks = stream.events.filter((event) => event.includes(CHUNK));
  const characters = chunks.reduce((sum, event) => sum + textOf(JSON.parse(dataOf(event))), 0);
  return { events: chunks.length, characters };
};
