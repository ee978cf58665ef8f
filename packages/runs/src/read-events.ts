import type { Db } from "@shaman/db";
import { z } from "zod";
import { runEvent, type RecordedEvent } from "./events.ts";

const PAGE = 500;

const SELECT_EVENTS = `
SELECT seq, task_id AS "taskId", type, payload FROM run_event
WHERE org_id = $1 AND run_id = $2 AND seq > $3 ORDER BY seq LIMIT ${PAGE}`;

const recorded = z.intersection(runEvent, z.object({ seq: z.int(), taskId: z.string() }));

/** The run's next events after `afterSeq`, at most 500; only what was committed. */
export const readEvents = async (
  db: Db,
  query: { readonly orgId: string; readonly runId: string; readonly afterSeq: number },
): Promise<readonly RecordedEvent[]> => {
  const [page] = await db.batch(query.orgId, [
    { name: "read_events", text: SELECT_EVENTS, values: [query.orgId, query.runId, query.afterSeq] },
  ]);
  return (page?.rows ?? []).map((row) => recorded.parse(row));
};
