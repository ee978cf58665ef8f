import { type Secret } from "@shaman/kernel";
import pg from "pg";

export type Listener = {
  /** Resolves once PostgreSQL delivers this channel to us. One handler a channel. */
  readonly listen: (channel: string, onPayload: (payload: string) => void) => Promise<void>;
  readonly close: () => Promise<void>;
};

const RECONNECT_MS = 500;

/**
 * One dedicated connection for LISTEN. It reconnects by itself and listens again; what was notified meanwhile is
 * lost, so every reader also looks by itself from time to time (`onReconnect` is the moment to look at once).
 */
export const createListener = (input: {
  readonly url: Secret;
  readonly name: string;
  readonly onError: (error: Error) => void;
  readonly onReconnect: () => void;
}): Listener => {
  const handlers = new Map<string, (payload: string) => void>();
  let client: pg.Client | undefined;
  let connecting: Promise<pg.Client> | undefined;
  let timer: NodeJS.Timeout | undefined;
  let closed = false;

  const open = async (): Promise<pg.Client> => {
    const next = new pg.Client({
      connectionString: input.url.reveal(),
      application_name: `${input.name}-listen`,
      keepAlive: true,
      connectionTimeoutMillis: 5_000,
    });
    next.on("error", (error) => {
      input.onError(error);
      lost(next);
    });
    next.on("end", () => lost(next));
    next.on("notification", (message) => handlers.get(message.channel)?.(message.payload ?? ""));
    await next.connect();
    for (const channel of handlers.keys()) await next.query(`LISTEN ${pg.escapeIdentifier(channel)}`);
    return next;
  };

  const connect = (): Promise<pg.Client> => {
    connecting ??= open().then(
      (opened) => {
        client = opened;
        connecting = undefined;
        return opened;
      },
      (error: unknown) => {
        connecting = undefined;
        throw error;
      },
    );
    return connecting;
  };

  const lost = (which: pg.Client): void => {
    if (client !== which) return;
    client = undefined;
    scheduleReconnect();
  };

  const scheduleReconnect = (): void => {
    if (closed || timer !== undefined) return;
    timer = setTimeout(() => {
      timer = undefined;
      connect().then(
        () => input.onReconnect(),
        (error: unknown) => {
          input.onError(error instanceof Error ? error : new Error(String(error)));
          scheduleReconnect();
        },
      );
    }, RECONNECT_MS);
  };

  return {
    listen: async (channel, onPayload) => {
      handlers.set(channel, onPayload);
      const connected = client ?? (await connect());
      await connected.query(`LISTEN ${pg.escapeIdentifier(channel)}`);
    },
    close: async () => {
      closed = true;
      clearTimeout(timer);
      const open = client;
      client = undefined;
      await open?.end();
    },
  };
};
