import type { Db, Row, SharedWork } from "@shaman/db";
import type { JsonObject } from "@shaman/kernel";
import { foldArtifacts, isWithdrawn, type ArtifactView } from "./artifacts.ts";
import { runEvent } from "./events.ts";
import { expiredArtifact } from "./expire-artifacts.ts";
import { taskState, type TaskState } from "./states.ts";
import { z } from "zod";

/** A task as its caller may see it, together with the number of the last event that is part of it. */
export type TaskView = {
  readonly orgId: string;
  readonly runId: string;
  readonly taskId: string;
  readonly contextId: string;
  readonly agent: string;
  readonly principal: string;
  readonly state: TaskState;
  readonly statusMessage: JsonObject | undefined;
  readonly statusAt: Date;
  readonly artifacts: readonly ArtifactView[];
  /** A2A Messages, oldest first; absent when none were asked for. */
  readonly history: readonly JsonObject[] | undefined;
  readonly lastSeq: number;
};

export type TaskQuery = {
  readonly orgId: string;
  readonly taskId: string;
  /** Only a task of this principal is found; absent for the organization's own people. */
  readonly principal?: string;
  /** Only a task of this agent is found. */
  readonly agent?: string;
  /** Newest messages at most; 0 leaves history out; absent gives up to `MAX_HISTORY`. */
  readonly historyLength?: number;
};

export const MAX_HISTORY = 200;

// A task that was answered waits no longer, although its row says so only when a worker has taken the answer up: until
// then it is submitted again, so that nobody who polls takes the old question for a new one.
const ANSWERED = `t.state = 'input_required' AND 'user' = (
    SELECT m.role FROM message m WHERE m.org_id = t.org_id AND m.task_id = t.id ORDER BY m.position DESC LIMIT 1)`;

// One statement, so one snapshot: what it gives is the task exactly after event `last_seq`.
const SELECT_TASKS = `
SELECT t.id, i.history AS wanted, t.run_id, t.parent_task_id, t.context_id, t.agent, t.principal, t.status_at, r.last_seq,
  r.artifacts_expired_at,
  CASE WHEN ${ANSWERED} THEN 'submitted' ELSE t.state END AS state,
  CASE WHEN ${ANSWERED} THEN NULL ELSE t.status_message END AS status_message,
  (SELECT json_agg(json_build_object('artifactId', a.id, 'name', a.name, 'description', a.description, 'parts', a.parts,
      'metadata', a.metadata) ORDER BY a.position)
    FROM artifact a WHERE a.org_id = t.org_id AND a.task_id = t.id AND r.state = 'completed') AS artifacts,
  (SELECT json_agg(json_build_object('type', e.type, 'payload', e.payload) ORDER BY e.seq)
    FROM run_event e WHERE e.org_id = t.org_id AND e.run_id = t.run_id AND e.task_id = t.id AND e.type = 'task.artifact'
      AND r.state <> 'completed') AS chunks,
  (SELECT json_agg(h.content ORDER BY h.position) FROM (
      SELECT m.content, m.position FROM message m WHERE m.org_id = t.org_id AND m.task_id = t.id
      ORDER BY m.position DESC LIMIT i.history) h) AS history
FROM jsonb_to_recordset($2::jsonb) AS i (id text, history integer),
  LATERAL (SELECT * FROM task WHERE task.org_id = $1 AND task.id = i.id OFFSET 0) t,
  LATERAL (SELECT last_seq, state, artifacts_expired_at FROM run WHERE run.org_id = $1 AND run.id = t.run_id OFFSET 0) r`;

type Wanted = { readonly id: string; readonly history: number };

const views: SharedWork<Wanted, Row | undefined> = {
  maxItems: 32,
  statement: (orgId, items) => ({
    name: "select_tasks",
    text: SELECT_TASKS,
    values: [orgId, JSON.stringify(items)],
  }),
  results: (rows, items) => {
    const found = new Map(rows.map((row) => [`${row.id} ${row.wanted}`, row]));
    return items.map(({ id, history }) => found.get(`${id} ${history}`));
  },
  durable: () => "later",
  order: ({ id }) => id,
};

const chunkRow = z.array(runEvent);

const toTaskView = (query: TaskQuery, row: Row): TaskView => {
  const state = taskState.parse(row.state);
  const chunks = row.chunks === null ? [] : chunkRow.parse(row.chunks);
  const stored: readonly ArtifactView[] | null = row.artifacts;
  const artifacts = stored?.filter((artifact) => !isWithdrawn(artifact)) ?? foldArtifacts(chunks);
  return {
    orgId: query.orgId,
    runId: row.run_id,
    taskId: query.taskId,
    contextId: row.context_id,
    agent: row.agent,
    principal: row.principal,
    state,
    statusMessage: row.status_message ?? undefined,
    statusAt: row.status_at,
    artifacts: row.artifacts_expired_at === null ? artifacts : artifacts.map(expiredArtifact(row.artifacts_expired_at)),
    history: query.historyLength === 0 ? undefined : (row.history ?? []),
    lastSeq: row.last_seq,
  };
};

/** The task, or nothing when it does not exist or is not this principal's or agent's: those cannot be told apart. */
export const findTask = async (db: Db, query: TaskQuery): Promise<TaskView | undefined> => {
  const history = Math.min(query.historyLength ?? MAX_HISTORY, MAX_HISTORY);
  const row = await db.together(query.orgId, views, { id: query.taskId, history });
  if (row === undefined || row.parent_task_id !== null) return undefined;
  if (query.principal !== undefined && row.principal !== query.principal) return undefined;
  if (query.agent !== undefined && row.agent !== query.agent) return undefined;
  return toTaskView(query, row);
};
