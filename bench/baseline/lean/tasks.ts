import { Pool } from "pg";

export type NewTask = {
  readonly id: string;
  readonly contextId: string;
  readonly messageId: string;
  readonly agent: string;
  readonly prompt: string;
};

/** A result on its way back to the public process that waits for it on `replyTo`. */
export type LeanResult = { readonly taskId: string; readonly answer: string; readonly replyTo: string };

export type Tasks = {
  readonly insert: (task: NewTask) => Promise<unknown>;
  /** Resolves when the row is committed. */
  readonly complete: (result: LeanResult) => Promise<unknown>;
  /** The same, and in the same statement tells the process that waits on the channel `replyTo`. */
  readonly completeAndNotify: (result: LeanResult) => Promise<unknown>;
};

const SCHEMA = `create table if not exists lean_task (
  id text primary key,
  context_id text not null,
  message_id text not null,
  agent text not null,
  prompt text not null,
  state text not null,
  answer text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
)`;

/** Creates the one table of the lean path. */
export const migrateTasks = async (databaseUrl: string): Promise<void> => {
  const pool = new Pool({ connectionString: databaseUrl, max: 1 });
  await pool.query(SCHEMA);
  await pool.end();
};

/** A pool whose connections stay open; pg turns Nagle off on each by itself. */
export const openPool = (databaseUrl: string, max: number): Pool =>
  new Pool({ connectionString: databaseUrl, max, keepAlive: true, idleTimeoutMillis: 0 });

const INSERT = `insert into lean_task (id, context_id, message_id, agent, prompt, state)
  values ($1, $2, $3, $4, $5, 'submitted')`;
const COMPLETE = "update lean_task set state = 'completed', answer = $2, updated_at = now() where id = $1";

/** Single-statement writes, each prepared once a connection. */
export const openTasks = (pool: Pool): Tasks => ({
  insert: ({ id, contextId, messageId, agent, prompt }) =>
    pool.query({ name: "insert", text: INSERT, values: [id, contextId, messageId, agent, prompt] }),
  complete: ({ taskId, answer }) => pool.query({ name: "complete", text: COMPLETE, values: [taskId, answer] }),
  completeAndNotify: ({ taskId, answer, replyTo }) =>
    pool.query({
      name: "complete-and-notify",
      text: `with done as (${COMPLETE} returning id) select pg_notify($3, $4) from done`,
      values: [taskId, answer, replyTo, JSON.stringify({ taskId, answer })],
    }),
});
