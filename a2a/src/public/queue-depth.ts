import type { Db } from "@shaman/db";
import { LRUCache } from "lru-cache";

/** Whether an organization has as many unfinished runs as it may. */
export type QueueDepth = (orgId: string, max: number) => Promise<boolean>;

const FRESH_MS = 1_000;
const MAX_ORGANIZATIONS = 10_000;

/** Counts unfinished runs once a second and organization at most: a little late, and free for all calls between. */
export const createQueueDepth = (db: Db): QueueDepth => {
  const full = new LRUCache<string, Promise<boolean>>({ max: MAX_ORGANIZATIONS, ttl: FRESH_MS });
  const count = async (orgId: string, max: number): Promise<boolean> => {
    const [found] = await db.batch(orgId, [
      {
        name: "queue_depth",
        text: `SELECT count(*) AS unfinished FROM (
          SELECT 1 FROM run WHERE org_id = $1 AND finished_at IS NULL LIMIT $2) AS counted`,
        values: [orgId, max],
      },
    ]);
    return Number(found?.rows[0]?.unfinished ?? 0) >= max;
  };
  return (orgId, max) => {
    const known = full.get(orgId);
    if (known !== undefined) return known;
    const counting = count(orgId, max);
    full.set(orgId, counting);
    counting.catch(() => full.delete(orgId));
    return counting;
  };
};
