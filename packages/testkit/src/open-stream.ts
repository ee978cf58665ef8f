import { readSse } from "@shaman/a2a-wire";
import type { Shaman, TestOrg } from "./shaman.ts";
import { request } from "undici";

export type OpenStream = {
  readonly status: number;
  readonly headers: Record<string, string | string[] | undefined>;
  /** The next event's envelope; undefined when the stream has ended. */
  // oxlint-disable-next-line typescript/no-explicit-any -- a test looks into events of many shapes
  readonly next: () => Promise<any>;
  /** All events that are still to come. */
  // oxlint-disable-next-line typescript/no-explicit-any -- a test looks into events of many shapes
  readonly rest: () => Promise<any[]>;
  /** Goes away as a client does whose connection breaks. */
  readonly leave: () => void;
};

const MAX_EVENT_BYTES = 4_000_000;

/** Opens SendStreamingMessage on an agent as a client would, event by event. */
export const openStream = async (
  shaman: Shaman,
  org: TestOrg,
  call: { readonly agent: string; readonly params: unknown; readonly headers?: Record<string, string> },
): Promise<OpenStream> => {
  const answer = await request(`${shaman.publicUrl}/a2a/v1/agents/${call.agent}`, {
    method: "POST",
    headers: {
      host: org.host,
      authorization: `Bearer ${org.apiKey}`,
      "content-type": "application/json",
      "a2a-version": "1.0",
      ...call.headers,
    },
    body: JSON.stringify({ jsonrpc: "2.0", id: "stream", method: "SendStreamingMessage", params: call.params }),
  });
  const events = readSse(answer.body, MAX_EVENT_BYTES);
  const next = async () => {
    const event = await events.next();
    return event.done === true ? undefined : JSON.parse(event.value);
  };
  return {
    status: answer.statusCode,
    headers: answer.headers,
    next,
    rest: async () => {
      const all = [];
      for (let event = await next(); event !== undefined; event = await next()) all.push(event);
      return all;
    },
    leave: () => void answer.body.on("error", () => undefined).destroy(),
  };
};

// oxlint-disable-next-line typescript/no-explicit-any -- a test looks into events of many shapes
type Event = any;

/** The text of all artifact updates among these events, `append: false` starting it anew. */
export const streamedText = (events: readonly Event[]): string => {
  let text = "";
  for (const { result } of events) {
    const update = result.artifactUpdate;
    if (update === undefined) continue;
    const piece = update.artifact.parts.map((part: { readonly text?: string }) => part.text ?? "").join("");
    text = update.append === true ? text + piece : piece;
  }
  return text;
};

/** What each event is: `task`, the artifact's `text`, or the state of a status update. */
export const kindsOf = (events: readonly Event[]): readonly string[] =>
  events.map(({ result }) => {
    if (result.task !== undefined) return "task";
    return result.artifactUpdate === undefined ? result.statusUpdate.status.state : "artifact";
  });
