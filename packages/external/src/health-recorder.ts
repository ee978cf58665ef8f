import { toJsonb, type Db } from "@shaman/db";
import type { Clock } from "@shaman/kernel";

export type CallFigures = {
  readonly orgId: string;
  readonly externalAgentId: string;
  /** Until the agent's first answer. */
  readonly latencyMs: number;
  /** The code of what went wrong; absent when it answered. */
  readonly error?: string;
};

/** Adds calls up in memory and writes them every few seconds: no row is touched by a call itself. */
export type HealthRecorder = {
  readonly record: (call: CallFigures) => void;
  /** Writes what there is. What cannot be written is kept for the next time. */
  readonly flush: () => Promise<void>;
  readonly close: () => Promise<void>;
};

type Bucket = {
  readonly orgId: string;
  readonly agentId: string;
  readonly hourMs: number;
  calls: number;
  errors: number;
  latencyMsSum: number;
  latencyMsMax: number;
  lastOkMs: number | null;
  lastErrorMs: number | null;
  lastError: string | null;
};

const FLUSH_MS = 10_000;
const HOUR_MS = 3_600_000;
/** More than this between two flushes are not counted. */
const MAX_BUCKETS = 10_000;
const KEEP_DAYS = 30;
const MAX_LATENCY_MS = 2_000_000_000;

const WRITE = `INSERT INTO external_agent_health AS h (org_id, external_agent_id, hour, calls, errors, latency_ms_sum,
  latency_ms_max, last_ok_at, last_error_at, last_error)
SELECT $1, e.id, b.hour, b.calls, b.errors, b.latency_ms_sum, b.latency_ms_max, b.last_ok_at, b.last_error_at, b.last_error
FROM jsonb_to_recordset($2) AS b (id text, hour timestamptz, calls int, errors int, latency_ms_sum bigint,
  latency_ms_max int, last_ok_at timestamptz, last_error_at timestamptz, last_error text)
JOIN external_agent e ON e.org_id = $1 AND e.id = b.id
ORDER BY e.id, b.hour
ON CONFLICT (org_id, external_agent_id, hour) DO UPDATE SET calls = h.calls + excluded.calls,
  errors = h.errors + excluded.errors, latency_ms_sum = h.latency_ms_sum + excluded.latency_ms_sum,
  latency_ms_max = greatest(h.latency_ms_max, excluded.latency_ms_max),
  last_ok_at = greatest(h.last_ok_at, excluded.last_ok_at),
  last_error = CASE WHEN h.last_error_at > excluded.last_error_at THEN h.last_error
    ELSE coalesce(excluded.last_error, h.last_error) END,
  last_error_at = greatest(h.last_error_at, excluded.last_error_at)`;

const FORGET = `DELETE FROM external_agent_health WHERE org_id = $1 AND external_agent_id = ANY ($2)
  AND hour < now() - make_interval(days => ${KEEP_DAYS})`;

const isoOf = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString());

const rowOf = (bucket: Bucket) => ({
  id: bucket.agentId,
  hour: isoOf(bucket.hourMs),
  calls: bucket.calls,
  errors: bucket.errors,
  latency_ms_sum: bucket.latencyMsSum,
  latency_ms_max: bucket.latencyMsMax,
  last_ok_at: isoOf(bucket.lastOkMs),
  last_error_at: isoOf(bucket.lastErrorMs),
  last_error: bucket.lastError,
});

const latest = (a: number | null, b: number | null): number | null =>
  a === null || b === null ? (a ?? b) : Math.max(a, b);

const addUp = (buckets: Map<string, Bucket>, added: Bucket): void => {
  const key = `${added.orgId}\n${added.agentId}\n${added.hourMs}`;
  const known = buckets.get(key);
  if (known === undefined) {
    if (buckets.size < MAX_BUCKETS) buckets.set(key, added);
    return;
  }
  known.calls += added.calls;
  known.errors += added.errors;
  known.latencyMsSum += added.latencyMsSum;
  known.latencyMsMax = Math.max(known.latencyMsMax, added.latencyMsMax);
  if ((added.lastErrorMs ?? 0) >= (known.lastErrorMs ?? 0)) known.lastError = added.lastError ?? known.lastError;
  known.lastOkMs = latest(known.lastOkMs, added.lastOkMs);
  known.lastErrorMs = latest(known.lastErrorMs, added.lastErrorMs);
};

export const createHealthRecorder = (deps: {
  readonly db: Db;
  readonly clock: Clock;
  readonly flushMs?: number;
  /** Told when figures could not be written. */
  readonly onError: (error: unknown) => void;
}): HealthRecorder => {
  let buckets = new Map<string, Bucket>();

  const flush = async (): Promise<void> => {
    const writing = [...buckets.values()];
    buckets = new Map();
    const orgs = new Map<string, Bucket[]>();
    for (const bucket of writing) orgs.set(bucket.orgId, [...(orgs.get(bucket.orgId) ?? []), bucket]);
    for (const [orgId, own] of orgs) {
      try {
        const agentIds = [...new Set(own.map(({ agentId }) => agentId))];
        await deps.db.withOrg(orgId, async (tx) => {
          await tx.query({ text: WRITE, values: [orgId, toJsonb(own.map(rowOf))] });
          await tx.query({ text: FORGET, values: [orgId, agentIds] });
        });
      } catch (error) {
        for (const bucket of own) addUp(buckets, bucket);
        deps.onError(error);
      }
    }
  };

  const timer = setInterval(() => void flush(), deps.flushMs ?? FLUSH_MS);
  timer.unref();
  return {
    record: ({ orgId, externalAgentId, latencyMs, error }) => {
      const nowMs = deps.clock.now();
      const ms = Math.min(Math.max(0, Math.round(latencyMs)), MAX_LATENCY_MS);
      addUp(buckets, {
        orgId,
        agentId: externalAgentId,
        hourMs: nowMs - (nowMs % HOUR_MS),
        calls: 1,
        errors: error === undefined ? 0 : 1,
        latencyMsSum: ms,
        latencyMsMax: ms,
        lastOkMs: error === undefined ? nowMs : null,
        lastErrorMs: error === undefined ? null : nowMs,
        lastError: error?.slice(0, 100) ?? null,
      });
    },
    flush,
    close: async () => {
      clearInterval(timer);
      await flush();
    },
  };
};
