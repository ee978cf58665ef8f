import type { Db } from "@shaman/db";
import type { Clock } from "@shaman/kernel";

/** Something that processes remember was changed: what it is now, they ask for. */
export type Change = { readonly what: string; readonly orgId: string; readonly id: string };

export type ChangeFeed = {
  /**
   * Every change committed before this moment of the clock was told. It grows each second while PostgreSQL answers, and
   * stands still while it does not: what was asked for earlier is then no longer known to be true.
   */
  readonly toldUntilMs: () => number;
  /** Called with each change, once. */
  readonly onChange: (tell: (change: Change) => void) => void;
  /** Called when more changed than can be told, or what changed cannot be known: whatever is remembered may be wrong. */
  readonly onUnknown: (forget: () => void) => void;
  /** Looks now. Rejects when PostgreSQL cannot be asked. */
  readonly look: () => Promise<void>;
  readonly close: () => void;
};

export type ChangeFeedDeps = {
  readonly db: Pick<Db, "unscoped">;
  readonly clock: Clock;
  readonly onError: (error: unknown) => void;
  readonly everyMs?: number;
};

const EVERY_MS = 1_000;
const MAX_CHANGES = 2_000;
/** Well below the age at which rows are deleted. */
const LONGEST_PAUSE_MS = 12 * 60 * 60_000;

/**
 * Rows of transactions below the horizon cannot appear any more, so the next look begins there; what is above it may be
 * seen twice. Both come from one snapshot.
 */
const LOOK = `SELECT h.horizon::text AS horizon, c.xid::text AS xid, c.org_id, c.what, c.id
  FROM (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS horizon) AS h
  LEFT JOIN LATERAL (SELECT xid, org_id, what, id FROM cache_change WHERE xid >= $1::xid8 LIMIT $2) AS c ON true`;

type Row = { horizon: string; xid: string | null; org_id: string; what: string; id: string };

/**
 * Tells each change of what processes remember, over all organizations, by one query a second. A trigger writes the
 * change's row in the change's own transaction, so that nothing is missed, whoever changed it and whatever became of
 * the nudge. The first look only finds out where to begin, and says that nothing is known.
 */
export const createChangeFeed = (deps: ChangeFeedDeps): ChangeFeed => {
  const tellers: ((change: Change) => void)[] = [];
  const forgetters: (() => void)[] = [];
  let horizon: bigint | undefined;
  let told: ReadonlySet<string> = new Set();
  let toldUntilMs = 0;

  const ask = async (): Promise<void> => {
    // Counted from before the question: what comes back may be as old as that.
    const askedMs = deps.clock.now();
    const from = askedMs - toldUntilMs < LONGEST_PAUSE_MS ? horizon : undefined;
    const values = [String(from ?? 0), from === undefined ? 0 : MAX_CHANGES + 1];
    const { rows } = await deps.db.unscoped((tx) => tx.query<Row>({ name: "changes", text: LOOK, values }));
    const next = BigInt(rows[0]?.horizon ?? 0);
    // Transactions are counted anew in a database that was restored elsewhere.
    if (from === undefined || next < from || rows.length > MAX_CHANGES) forgetters.forEach((forget) => forget());
    const again = new Set<string>();
    for (const { xid, org_id: orgId, what, id } of rows) {
      if (xid === null) continue;
      const key = `${xid} ${what} ${orgId} ${id}`;
      if (!told.has(key)) tellers.forEach((tell) => tell({ what, orgId, id }));
      if (BigInt(xid) >= next) again.add(key);
    }
    told = again;
    horizon = next;
    toldUntilMs = askedMs;
  };

  let last: Promise<unknown> = Promise.resolve();
  let waiting = 0;
  const look = (): Promise<void> => {
    waiting += 1;
    const looked = last.then(ask).finally(() => {
      waiting -= 1;
    });
    last = looked.catch(() => undefined);
    return looked;
  };
  const timer = setInterval(() => {
    if (waiting === 0) look().catch(deps.onError);
  }, deps.everyMs ?? EVERY_MS);
  timer.unref();

  return {
    toldUntilMs: () => toldUntilMs,
    onChange: (tell) => void tellers.push(tell),
    onUnknown: (forget) => void forgetters.push(forget),
    look,
    close: () => clearInterval(timer),
  };
};

/** Deletes changes that every process has seen long ago. A process that slept longer trusts nothing it remembers. */
export const deleteOldChanges = async (deps: { readonly db: Pick<Db, "unscoped"> }): Promise<number> => {
  const { rowCount } = await deps.db.unscoped((tx) =>
    tx.query({ name: "delete_old_changes", text: "DELETE FROM cache_change WHERE at < now() - interval '1 day'" }),
  );
  return rowCount;
};
