import { AppError } from "@shaman/kernel";
import type { McpLimits } from "./mcp-limits.ts";
import type { McpSession } from "./mcp-session.ts";

/**
 * Whose session it is. Everything here is part of its key: sessions of two organizations, servers or credentials are never
 * one, and those of two runs only where the server keeps nothing between calls.
 */
export type SessionKey = {
  readonly orgId: string;
  readonly sourceId: string;
  readonly credentialId: string;
  /** Null: shared among the runs of the organization. */
  readonly runId: string | null;
};

export type SessionLease = { readonly session: McpSession; readonly release: () => void };

export type SessionPool = {
  readonly acquire: (key: SessionKey, make: () => McpSession) => SessionLease;
  readonly size: () => number;
  readonly close: () => Promise<void>;
};

type Entry = {
  readonly key: SessionKey;
  readonly session: McpSession;
  users: number;
  idle: NodeJS.Timeout | undefined;
};

const textOf = (key: SessionKey): string => JSON.stringify([key.orgId, key.sourceId, key.credentialId, key.runId]);

export const createSessionPool = (
  limits: Pick<McpLimits, "runIdleMs" | "sharedIdleMs" | "maxSessions">,
): SessionPool => {
  const entries = new Map<string, Entry>();
  const closing = new Set<Promise<void>>();
  let isClosed = false;

  const drop = (text: string, entry: Entry): void => {
    clearTimeout(entry.idle);
    entries.delete(text);
    const closed = entry.session.close().finally(() => closing.delete(closed));
    closing.add(closed);
  };

  const makeRoom = (): void => {
    if (entries.size < limits.maxSessions) return;
    for (const [text, entry] of entries) {
      if (entry.users > 0) continue;
      drop(text, entry);
      return;
    }
    throw new AppError({
      code: "mcp_too_many_sessions",
      kind: "operational",
      message: `There are ${limits.maxSessions} sessions with MCP servers already: try again shortly.`,
    });
  };

  const release = (text: string, entry: Entry): void => {
    entry.users -= 1;
    if (entry.users > 0 || entries.get(text) !== entry) return;
    const idleMs = entry.key.runId === null ? limits.sharedIdleMs : limits.runIdleMs;
    entry.idle = setTimeout(() => drop(text, entry), idleMs);
    entry.idle.unref();
  };

  return {
    acquire: (key, make) => {
      if (isClosed) throw new AppError({ code: "mcp_closed", kind: "operational", message: "The server is stopping." });
      const text = textOf(key);
      let entry = entries.get(text);
      if (entry === undefined) {
        makeRoom();
        entry = { key, session: make(), users: 0, idle: undefined };
        entries.set(text, entry);
      }
      clearTimeout(entry.idle);
      entry.users += 1;
      const taken = entry;
      let isReleased = false;
      return {
        session: taken.session,
        release: () => {
          if (!isReleased) release(text, taken);
          isReleased = true;
        },
      };
    },
    size: () => entries.size,
    close: async () => {
      isClosed = true;
      for (const [text, entry] of entries) drop(text, entry);
      await Promise.all(closing);
    },
  };
};
