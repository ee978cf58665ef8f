import { AppError } from "@shaman/kernel";
import type { McpConnection } from "./mcp-connection.ts";
import { isConnectionLost, isSessionLost } from "./mcp-failure.ts";
import { untilAborted } from "./until-aborted.ts";

/** A place for one connection at a time, opened when it is needed, and anew when it was lost. */
export type McpSession = {
  /** Runs `work` on the open connection. Rejects with what went wrong in opening or in the work. */
  readonly use: <T>(work: (connection: McpConnection) => Promise<T>, signal: AbortSignal) => Promise<T>;
  readonly close: () => Promise<void>;
};

export type McpSessionDeps = {
  readonly connect: (signal: AbortSignal) => Promise<McpConnection>;
  readonly now: () => number;
};

const MAX_OPENS = 4;
const OPENS_WITHIN_MS = 60_000;

export const createMcpSession = ({ connect, now }: McpSessionDeps): McpSession => {
  const closing = new AbortController();
  let current: Promise<McpConnection> | undefined;
  let opens: readonly number[] = [];

  const open = (): Promise<McpConnection> => {
    opens = opens.filter((at) => at > now() - OPENS_WITHIN_MS);
    if (opens.length >= MAX_OPENS) {
      const message = `The server was lost ${MAX_OPENS} times within a minute, so it is left alone for a while.`;
      return Promise.reject(new AppError({ code: "mcp_lost_too_often", kind: "operational", message }));
    }
    opens = [...opens, now()];
    // Not the caller's signal: another call may wait for the same connection.
    return connect(closing.signal);
  };

  const forget = async (lost: Promise<McpConnection>): Promise<void> => {
    if (current === lost) current = undefined;
    await lost.then(
      (connection) => connection.close(),
      () => undefined,
    );
  };

  const ensure = async (): Promise<readonly [Promise<McpConnection>, McpConnection]> => {
    current ??= open();
    const opening = current;
    try {
      const connection = await opening;
      if (connection.isOpen()) return [opening, connection];
    } catch (error) {
      if (current === opening) current = undefined;
      throw error;
    }
    await forget(opening);
    current ??= open();
    return [current, await current];
  };

  const use: McpSession["use"] = async (work, signal) => {
    for (let attempt = 1; ; attempt += 1) {
      const [opening, connection] = await untilAborted(ensure(), signal);
      try {
        return await work(connection);
      } catch (error) {
        if (!isConnectionLost(error)) throw error;
        // One answer that broke off is no lost session: others may be using it.
        if (isSessionLost(error) || !connection.isOpen()) await forget(opening);
        // The server did nothing of a request whose session it does not know, so that it may be sent once more.
        if (!isSessionLost(error) || attempt > 1) throw error;
      }
    }
  };

  return {
    use,
    close: async () => {
      closing.abort();
      if (current !== undefined) await forget(current);
    },
  };
};
