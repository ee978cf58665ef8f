import type { Db } from "@shaman/db";
import type { Clock } from "@shaman/kernel";
import { LRUCache } from "lru-cache";

/** Whether an organization has as many unfinished runs as it may. Asked once for each run that is to be started. */
export type QueueDepth = (orgId: string, max: number) => Promise<boolean>;

type Count = {
  readonly unfinished: number;
  readonly askedMs: number;
  /** Asked about since: so many runs may have been started here. */
  starts: number;
};

const FRESH_MS = 1_000;
const ROOMY_MS = 30_000;
const MAX_ORGANIZATIONS = 20_000;

/**
 * Counts unfinished runs once a second and organization at most. Where there is much room, not even that: a count is
 * good for half a minute, as long as this process has started fewer runs since than half of what was free. So a quiet
 * organization pays for no count, and a full one is found full a little late.
 */
export const createQueueDepth = (deps: { readonly db: Pick<Db, "batch">; readonly clock: Clock }): QueueDepth => {
  const counts = new LRUCache<string, Count>({ max: MAX_ORGANIZATIONS });
  const counting = new Map<string, Promise<Count>>();

  const isGood = (count: Count, max: number): boolean => {
    const ageMs = deps.clock.now() - count.askedMs;
    if (ageMs < FRESH_MS) return true;
    return ageMs < ROOMY_MS && count.starts < (max - count.unfinished) / 2;
  };

  const ask = async (orgId: string, max: number): Promise<Count> => {
    const askedMs = deps.clock.now();
    const [found] = await deps.db.batch(orgId, [
      {
        name: "queue_depth",
        text: `SELECT count(*) AS unfinished FROM (
          SELECT 1 FROM run WHERE org_id = $1 AND finished_at IS NULL LIMIT $2) AS counted`,
        values: [orgId, max],
      },
    ]);
    const count = { unfinished: Number(found?.rows[0]?.unfinished ?? 0), askedMs, starts: 0 };
    counts.set(orgId, count);
    return count;
  };

  const current = (orgId: string, max: number): Promise<Count> => {
    const running = counting.get(orgId) ?? ask(orgId, max).finally(() => counting.delete(orgId));
    counting.set(orgId, running);
    return running;
  };

  return async (orgId, max) => {
    const known = counts.get(orgId);
    const count = known !== undefined && isGood(known, max) ? known : await current(orgId, max);
    count.starts += 1;
    return count.unfinished >= max;
  };
};
