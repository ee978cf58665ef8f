import { createListener, type Db } from "@shaman/db";
import type { Secret } from "@shaman/kernel";
import { openRedis } from "./redis.ts";
import { settledWithin } from "./settled-within.ts";

/** What the processes tell each other. A payload is a short text, below 8,000 bytes; the rows are the truth. */
export const CHANNELS = {
  /** `<runId>:<seq>`: events up to seq were committed. Behind another colon, a short run's answer. */
  run: "shaman_run",
  /** The same, when the run goes on: for servers that work on it and wait for a step to be committed, and for nothing else. */
  goingOn: "shaman_going_on",
  /** `<runId>`: a command row waits for the run's lease holder. */
  command: "shaman_command",
  /** `<what>:<orgId>:<id>`: cached rows changed. */
  cache: "shaman_cache",
  /** Which workers have slots free, and for whom (`packages/runs/src/offers.ts`). */
  offers: "shaman_offers",
} as const;
/** `shaman_assigned_<address>` is for one worker: runs that were accepted under its lease. */
export type Channel = (typeof CHANNELS)[keyof typeof CHANNELS] | `shaman_assigned_${string}`;

export type FanOut = {
  /** Tells every subscriber of every process. Never rejects: a lost nudge costs a reader its slow poll's delay. */
  readonly publish: (channel: Channel, payload: string) => void;
  /** Whether a NOTIFY of PostgreSQL reaches subscribers as well, so that a transaction can tell what it commits. */
  readonly byNotify: boolean;
  readonly subscribe: (channel: Channel, onPayload: (payload: string) => void) => Promise<void>;
  /** Called after the connection was lost and is back: nudges may have been missed, so look now. */
  readonly onGap: (look: () => void) => void;
  readonly close: () => Promise<void>;
};

export type FanOutOptions = { readonly name: string; readonly onError: (error: Error) => void };

const CLOSE_MS = 2_000;

const asError = (error: unknown): Error => (error instanceof Error ? error : new Error(String(error)));

/** Fan-out by LISTEN/NOTIFY. What is published while a NOTIFY is under way goes out together with the next one. */
export const createPostgresFanOut = (input: FanOutOptions & { readonly db: Db; readonly url: Secret }): FanOut => {
  const gaps: (() => void)[] = [];
  const listener = createListener({
    url: input.url,
    name: input.name,
    onError: input.onError,
    onReconnect: () => gaps.forEach((look) => look()),
  });
  let waiting: { channels: string[]; payloads: string[] } = { channels: [], payloads: [] };
  let sending: Promise<void> | undefined;

  const send = async (): Promise<void> => {
    while (waiting.channels.length > 0) {
      const batch = waiting;
      waiting = { channels: [], payloads: [] };
      await input.db
        .plain({
          name: "notify",
          text: "SELECT pg_notify(c, p) FROM unnest($1::text[], $2::text[]) AS n (c, p)",
          values: [batch.channels, batch.payloads],
        })
        .catch((error: unknown) => input.onError(asError(error)));
    }
    sending = undefined;
  };

  return {
    publish: (channel, payload) => {
      waiting.channels.push(channel);
      waiting.payloads.push(payload);
      sending ??= send();
    },
    byNotify: true,
    subscribe: listener.listen,
    onGap: (look) => void gaps.push(look),
    close: async () => {
      await sending;
      await listener.close();
    },
  };
};

/** Fan-out by Redis publish/subscribe, on two connections. */
export const createRedisFanOut = (input: FanOutOptions & { readonly url: Secret }): FanOut => {
  const open = (suffix: string, patient: boolean) =>
    openRedis({ url: input.url, name: `${input.name}-${suffix}`, patient, onError: input.onError });
  const publisher = open("publish", false);
  const subscriber = open("subscribe", true);
  const handlers = new Map<string, (payload: string) => void>();
  const gaps: (() => void)[] = [];
  let lastSent: Promise<unknown> = Promise.resolve();
  let connectedBefore = false;
  subscriber.on("message", (channel: string, payload: string) => handlers.get(channel)?.(payload));
  subscriber.on("ready", () => {
    if (connectedBefore) gaps.forEach((look) => look());
    connectedBefore = true;
  });
  return {
    publish: (channel, payload) => {
      lastSent = publisher.publish(channel, payload).catch((error: unknown) => input.onError(asError(error)));
    },
    byNotify: false,
    subscribe: async (channel, onPayload) => {
      handlers.set(channel, onPayload);
      await subscriber.subscribe(channel);
    },
    onGap: (look) => void gaps.push(look),
    close: async () => {
      // Answers come in order: with the last one, all have left.
      await settledWithin([lastSent], CLOSE_MS);
      publisher.disconnect();
      subscriber.disconnect();
    },
  };
};
