import type { Db } from "@shaman/db";
import { z } from "zod";
import { parsedJson } from "./json-schema.ts";
import type { RunWatcher } from "./run-watcher.ts";

/** A value that the agents of one run share, with who wrote it. */
const sharedValue = z.object({
  name: z.string(),
  value: parsedJson,
  taskId: z.string(),
  agent: z.string(),
  position: z.int(),
});
export type SharedValue = z.output<typeof sharedValue>;

type At = { readonly orgId: string; readonly runId: string };

const COLUMNS = `name, value, task_id AS "taskId", agent, position`;

/** The recorded value of this name, if there is one. */
export const findSharedValue = async (db: Db, at: At & { readonly name: string }): Promise<SharedValue | undefined> => {
  const [found] = await db.batch(at.orgId, [
    {
      name: "find_shared_value",
      text: `SELECT ${COLUMNS} FROM run_data WHERE org_id = $1 AND run_id = $2 AND name = $3`,
      values: [at.orgId, at.runId, at.name],
    },
  ]);
  const row = found?.rows[0];
  return row === undefined ? undefined : sharedValue.parse(row);
};

const MAX_LISTED = 1_000;

/** Names that the run has values for, and who wrote them, oldest first. */
export const listSharedValues = async (
  db: Db,
  at: At,
): Promise<readonly { readonly name: string; readonly agent: string }[]> => {
  const [found] = await db.batch(at.orgId, [
    {
      name: "list_shared_values",
      text: `SELECT name, agent FROM run_data WHERE org_id = $1 AND run_id = $2 ORDER BY created_at, name LIMIT ${MAX_LISTED}`,
      values: [at.orgId, at.runId],
    },
  ]);
  return (found?.rows ?? []).map(({ name, agent }) => ({ name: String(name), agent: String(agent) }));
};

/**
 * Resolves with the value once one of this name is committed, whoever wrote it. Rejects with the signal's reason when
 * that is aborted first.
 */
export const whenValueShared = async (
  deps: { readonly db: Db; readonly watcher: RunWatcher },
  at: At & { readonly name: string },
  signal: AbortSignal,
): Promise<SharedValue> => {
  const watch = deps.watcher.watch(at);
  try {
    for (;;) {
      signal.throwIfAborted();
      const seq = await lastSeqOf(deps.db, at);
      const value = await findSharedValue(deps.db, at);
      if (value !== undefined) return value;
      await watch.beyond(seq, signal);
    }
  } finally {
    watch.stop();
  }
};

// Read before the value, so that a commit in between wakes us instead of being missed.
const lastSeqOf = async (db: Db, at: At): Promise<number> => {
  const [found] = await db.batch(at.orgId, [
    {
      name: "last_seq",
      text: "SELECT last_seq FROM run WHERE org_id = $1 AND id = $2",
      values: [at.orgId, at.runId],
    },
  ]);
  return Number(found?.rows[0]?.last_seq ?? 0);
};
