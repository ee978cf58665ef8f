import { AppError } from "@shaman/kernel";
import type { Dispatcher } from "undici";
import { parseEnvelope, type AgentEvent } from "./agent-events.ts";
import { neverConnected } from "./never-connected.ts";
import { readSseTogether } from "./sse.ts";

/** A model step holds the model's whole answer; the engine refuses larger ones before they are sent. */
const MAX_EVENT_BYTES = 16_000_000;
const MAX_ERROR_BYTES = 100_000;

export type StreamCall = {
  readonly origin: string;
  readonly path: string;
  /** A JSON-RPC SendStreamingMessage request, exactly the bytes that were signed. */
  readonly body: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
  /** Told the name of the server that answers. */
  readonly onNonce?: (nonce: string) => void;
};

/** Header of an internal server's answers: the name a token may have it by. */
export const NONCE_HEADER = "x-shaman-nonce";
/** The token names another server than the one that was reached: nothing was done. */
export const MISDIRECTED = "agent_misdirected";
const MISDIRECTED_STATUS = 421;

/** The other side could not be reached, or its answer broke off. `started` says whether it may have begun to work. */
export const agentUnavailable = (message: string, started: boolean, cause?: unknown): AppError =>
  new AppError({
    code: started ? "agent_stream_broken" : "agent_unavailable",
    kind: "operational",
    message,
    ...(cause !== undefined && { cause }),
  });

/**
 * Sends a message and gives the agent's events as they come (A2A 1.0.1 §3.1.2, §9.4.2), those that come together at
 * once. Ends when the stream does.
 * Throws `agent_unavailable` where nobody has seen the message, `agent_stream_broken` where somebody may have,
 * `agent_misdirected` or `agent_refused` for an error answer.
 */
export async function* streamMessage(
  dispatcher: Dispatcher,
  call: StreamCall,
): AsyncGenerator<readonly AgentEvent[], void, undefined> {
  const response = await dispatcher
    .request({
      origin: call.origin,
      path: call.path,
      method: "POST",
      headers: {
        ...call.headers,
        "content-type": "application/json",
        accept: "text/event-stream",
        "a2a-version": "1.0",
      },
      body: call.body,
      signal: call.signal,
      bodyTimeout: 0,
    })
    .catch((cause: unknown) => {
      if (call.signal.aborted) throw call.signal.reason;
      if (neverConnected(cause)) throw agentUnavailable(`The agent at ${call.origin} cannot be reached`, false, cause);
      throw agentUnavailable(`The agent at ${call.origin} broke off before it answered`, true, cause);
    });
  const nonce = response.headers[NONCE_HEADER];
  if (typeof nonce === "string") call.onNonce?.(nonce);
  const type = String(response.headers["content-type"] ?? "");
  if (response.statusCode !== 200 || !type.startsWith("text/event-stream")) {
    const text = (await response.body.text()).slice(0, MAX_ERROR_BYTES);
    throw refused(response.statusCode, text);
  }
  try {
    for await (const lines of readSseTogether(response.body, MAX_EVENT_BYTES)) {
      const { events, broken } = readEvents(lines);
      if (events.length > 0) yield events;
      if (broken !== undefined) throw broken.reason;
    }
  } catch (error) {
    if (call.signal.aborted) throw call.signal.reason;
    if (error instanceof AppError) throw error;
    throw agentUnavailable(`The answer of ${call.origin} broke off`, true, error);
  }
}

/** The events up to the first line that is none, and why it is none. */
const readEvents = (
  lines: readonly string[],
): { readonly events: readonly AgentEvent[]; readonly broken?: { readonly reason: unknown } } => {
  const events: AgentEvent[] = [];
  try {
    for (const line of lines) {
      const envelope = parseEnvelope(JSON.parse(line));
      if ("error" in envelope) throw refused(200, envelope.error.message);
      events.push(envelope.result);
    }
  } catch (reason) {
    return { events, broken: { reason } };
  }
  return { events };
};

const refused = (status: number, text: string): AppError => {
  const away = status === 502 || status === 503 || status === 504;
  if (away) return agentUnavailable(`The agent answered ${status}`, false);
  return new AppError({
    code: status === MISDIRECTED_STATUS ? MISDIRECTED : "agent_refused",
    kind: "unexpected",
    message: `The agent refused the message: ${status} ${text}`,
  });
};
