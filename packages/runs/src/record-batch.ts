import type { Db, SharedWork } from "@shaman/db";
import { newId } from "@shaman/kernel";
import type { Batch, Lease } from "./batch.ts";
import { recordStatement, type RecordItem } from "./record-statement.ts";

export type Recorded = {
  readonly lastSeq: number;
  readonly wake: number;
  readonly priority: number;
  /** The commit's own time, which the rows have. */
  readonly at: Date;
};

const records: SharedWork<RecordItem, Recorded | undefined> = {
  maxItems: 32,
  statement: recordStatement,
  results: (rows, items) => {
    const byRun = new Map(rows.map((row) => [row.id, row]));
    return items.map(({ lease }) => {
      const row = byRun.get(lease.runId);
      return row === undefined
        ? undefined
        : { lastSeq: row.last_seq, wake: row.wake, priority: row.priority, at: row.at };
    });
  },
  durable: () => "at once",
  order: ({ lease }) => lease.runId,
};

/**
 * Commits what happened in a run, in one transaction, under the lease. Gives nothing, having changed nothing, when the
 * lease is no longer ours: the caller must then stop at once.
 */
export const recordBatch = (db: Db, lease: Lease, batch: Batch): Promise<Recorded | undefined> => {
  const steps = batch.steps.map((step) => ({ ...step, id: newId("step") }));
  const failedCalls = (batch.failedCalls ?? []).map((call) => ({ ...call, id: newId("step") }));
  return db.together(lease.orgId, records, { lease, batch: { ...batch, steps, failedCalls } });
};
