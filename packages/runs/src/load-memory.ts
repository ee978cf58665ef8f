import type { Db } from "@shaman/db";
import type { JsonObject } from "@shaman/kernel";
import { z } from "zod";
import { isWithdrawn } from "./artifacts.ts";
import { parsedJsonObject } from "./json-schema.ts";

const MAX_EXCHANGES = 20;

// Only what was complete when the task began, so that a later attempt remembers the same.
const SELECT_MEMORY = `
SELECT (SELECT m.content FROM message m WHERE m.org_id = t.org_id AND m.task_id = t.id AND m.position = 1) AS message,
  (SELECT coalesce(json_agg(a.parts ORDER BY a.position), '[]') FROM artifact a WHERE a.org_id = t.org_id AND a.task_id = t.id) AS artifacts
FROM task t JOIN task own ON own.org_id = t.org_id AND own.id = $2
WHERE t.org_id = $1 AND t.principal = own.principal AND t.context_id = own.context_id AND t.agent = own.agent
  AND t.id <> own.id AND t.parent_task_id IS NULL AND t.state = 'completed' AND t.status_at < own.created_at
ORDER BY t.created_at DESC LIMIT ${MAX_EXCHANGES}`;

const row = z.object({ message: parsedJsonObject, artifacts: z.array(z.array(parsedJsonObject)) });

export type Exchange = {
  readonly message: JsonObject;
  /** All parts the agent answered with. */
  readonly answer: readonly JsonObject[];
};

/** The exchanges of the task's context that were complete before it began, oldest first, at most 20. */
export const loadMemory = async (
  db: Db,
  task: { readonly orgId: string; readonly taskId: string },
): Promise<readonly Exchange[]> => {
  const [found] = await db.batch(task.orgId, [
    { name: "load_memory", text: SELECT_MEMORY, values: [task.orgId, task.taskId] },
  ]);
  return (found?.rows ?? []).toReversed().map((one) => {
    const { message, artifacts } = row.parse(one);
    return { message, answer: artifacts.filter((parts) => !isWithdrawn({ parts })).flat() };
  });
};
