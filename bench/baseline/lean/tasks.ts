import { Pool } from "pg";

export type NewTask = {
  readonly id: string;
  readonly contextId: string;
  readonly messageId: string;
  readonly agent: string;
  readonly prompt: string;
};

export type Tasks = {
  readonly insert: (task: NewTask) => Promise<unknown>;
  /** Resolves when the row is committed. */
  readonly complete: (id: string, answer: string) => Promise<unknown>;
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

/** Two single-statement writes, each prepared once a connection. */
export const openTasks = (pool: Pool): Tasks => ({
  insert: (task) =>
    pool.query({
      name: "insert-task",
      text: "insert into lean_task (id, context_id, message_id, agent, prompt, state) values ($1, $2, $3, $4, $5, 'submitted')",
      values: [task.id, task.contextId, task.messageId, task.agent, task.prompt],
    }),
  complete: (id, answer) =>
    pool.query({
      name: "complete-task",
      text: "update lean_task set state = 'completed', answer = $2, updated_at = now() where id = $1",
      values: [id, answer],
    }),
});
