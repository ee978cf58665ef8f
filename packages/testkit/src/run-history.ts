import type { TestDatabase } from "./test-database.ts";

/** A step as the database holds it. */
export type HistoryStep = {
  readonly taskId: string;
  readonly position: number;
  readonly kind: string;
  readonly name: string;
  readonly state: string;
  readonly output: unknown;
  readonly leaseEpoch: number;
  readonly finishedAt: Date | null;
};

/** All finished steps of an organization, by task and position: what nobody may ever do again or change. */
export const readFinishedSteps = (database: TestDatabase, orgId: string): Promise<HistoryStep[]> =>
  database.inspect<HistoryStep>(
    `SELECT task_id AS "taskId", position, kind, name, state, output, lease_epoch AS "leaseEpoch", finished_at AS "finishedAt"
     FROM step WHERE org_id = $1 AND finished_at IS NOT NULL ORDER BY task_id, position`,
    [orgId],
  );

// Each gives the rows that break a promise, with what they break.
const PROMISES: Readonly<Record<string, string>> = {
  "event numbers count from 1 without gap or repeat, up to the run's last": `
    SELECT r.id FROM run r WHERE org_id = $1 AND (SELECT count(*) <> r.last_seq OR min(seq) <> 1 OR max(seq) <> r.last_seq
      FROM run_event e WHERE e.org_id = r.org_id AND e.run_id = r.id)`,
  "events are written under leases that only grow": `
    SELECT run_id AS id FROM (SELECT run_id, lease_epoch < lag(lease_epoch) OVER (PARTITION BY run_id ORDER BY seq) AS back
      FROM run_event WHERE org_id = $1) e WHERE back`,
  "a finished task has exactly one terminal event, and none after it": `
    SELECT t.id FROM task t WHERE org_id = $1 AND state IN ('completed', 'failed', 'canceled', 'rejected') AND (
      SELECT count(*) <> 1 OR max(seq) <> (SELECT max(seq) FROM run_event l WHERE l.org_id = t.org_id AND l.task_id = t.id)
      FROM run_event e WHERE e.org_id = t.org_id AND e.task_id = t.id AND e.type = 'task.status'
        AND e.payload->>'state' IN ('completed', 'failed', 'canceled', 'rejected'))`,
  "task, run and last status event agree": `
    SELECT t.id FROM task t JOIN run r ON r.org_id = t.org_id AND r.id = t.run_id AND r.root_task_id = t.id
    WHERE t.org_id = $1 AND (r.finished_at IS NOT NULL AND r.state <> t.state OR t.state <> (
      SELECT payload->>'state' FROM run_event e WHERE e.org_id = t.org_id AND e.task_id = t.id AND e.type = 'task.status'
      ORDER BY seq DESC LIMIT 1))`,
  "the last status event of every task tells its state": `
    SELECT t.id FROM task t WHERE org_id = $1 AND parent_task_id IS NOT NULL AND coalesce(t.state <> (
      SELECT payload->>'state' FROM run_event e WHERE e.org_id = t.org_id AND e.task_id = t.id AND e.type = 'task.status'
      ORDER BY seq DESC LIMIT 1), t.state <> 'submitted')`,
  "no task of a finished run is open, and none ends after its parent": `
    SELECT t.id FROM task t JOIN run r ON r.org_id = t.org_id AND r.id = t.run_id JOIN task p ON p.org_id = t.org_id AND p.id = t.parent_task_id
    WHERE t.org_id = $1 AND (r.finished_at IS NOT NULL AND t.state NOT IN ('completed', 'failed', 'canceled', 'rejected')
      OR p.state = 'completed' AND t.status_at > p.status_at)`,
  "every task below another belongs to one call of it, and every begun call has one task": `
    SELECT t.id FROM task t WHERE org_id = $1 AND parent_task_id IS NOT NULL AND 1 <> (
      SELECT count(*) FROM step s WHERE s.org_id = t.org_id AND s.task_id = t.parent_task_id AND s.child_task_id = t.id AND s.kind = 'call')
    UNION ALL SELECT s.id FROM step s WHERE org_id = $1 AND kind = 'call' AND child_task_id IS NOT NULL AND NOT EXISTS (
      SELECT 1 FROM task t WHERE t.org_id = s.org_id AND t.id = s.child_task_id AND t.parent_task_id = s.task_id)`,
  "a finished call agrees with how its task ended": `
    SELECT s.id FROM step s JOIN task t ON t.org_id = s.org_id AND t.id = s.child_task_id
    WHERE s.org_id = $1 AND (s.state = 'done' AND t.state <> 'completed' OR s.state = 'failed' AND t.state = 'completed')`,
  "each finished call was audited once": `
    SELECT t.id FROM task t WHERE org_id = $1
      AND (SELECT count(*) FROM step s WHERE s.org_id = t.org_id AND s.task_id = t.id AND kind = 'call' AND finished_at IS NOT NULL)
        <> (SELECT count(*) FROM audit_log a WHERE a.org_id = t.org_id AND a.task_id = t.id AND a.action = 'agent:call')`,
  "a finished run holds no part of a spend limit": `
    SELECT r.id FROM run r WHERE org_id = $1 AND lease_until IS NULL AND reserved_usd <> 0`,
  "steps of a completed task are numbered from 1 without gap, all finished": `
    SELECT t.id FROM task t WHERE org_id = $1 AND state = 'completed' AND (
      SELECT count(*) <> max(position) OR bool_or(finished_at IS NULL) FROM step s WHERE s.org_id = t.org_id AND s.task_id = t.id)`,
  "each finished step was told once": `
    SELECT s.id FROM step s WHERE org_id = $1 AND finished_at IS NOT NULL AND 1 <> (
      SELECT count(*) FROM run_event e WHERE e.org_id = s.org_id AND e.task_id = s.task_id AND e.type = 'step'
        AND (e.payload->>'position')::integer = s.position AND e.payload->>'state' = s.state)`,
  "each model step's usage is counted once, and the run's sums are those of its steps": `
    SELECT r.id FROM run r WHERE org_id = $1 AND (
      r.steps <> (SELECT count(*) FROM step s WHERE s.org_id = r.org_id AND s.run_id = r.id AND finished_at IS NOT NULL)
      OR (r.input_tokens, r.output_tokens) <> (SELECT coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0)
        FROM usage u WHERE u.org_id = r.org_id AND u.run_id = r.id)
      OR (SELECT count(*) FROM step s WHERE s.org_id = r.org_id AND s.run_id = r.id AND kind = 'model')
        <> (SELECT count(*) FROM usage u JOIN step s ON s.org_id = u.org_id AND s.id = u.step_id AND s.run_id = r.id AND s.kind = 'model'
          WHERE u.org_id = r.org_id AND u.run_id = r.id))`,
  "a finished run holds no lease and was audited once when accepted and once when finished": `
    SELECT r.id FROM run r WHERE org_id = $1 AND finished_at IS NOT NULL AND (lease_until IS NOT NULL OR 1 <> (
      SELECT count(*) FROM audit_log a WHERE a.org_id = r.org_id AND a.task_id = r.root_task_id AND a.action = 'task:' || r.state
        AND a.server = 'worker')
      OR 1 <> (SELECT count(*) FROM audit_log a WHERE a.org_id = r.org_id AND a.task_id = r.root_task_id AND a.action = 'agent:execute'))`,
  "each finished tool step was audited once": `
    SELECT t.id FROM task t WHERE org_id = $1
      AND (SELECT count(*) FROM step s WHERE s.org_id = t.org_id AND s.task_id = t.id AND kind = 'tool' AND finished_at IS NOT NULL)
        <> (SELECT count(*) FROM audit_log a WHERE a.org_id = t.org_id AND a.task_id = t.id AND a.action = 'tool:call')`,
  "artifacts are what the events add up to, each whole and once": `
    SELECT t.id FROM task t WHERE org_id = $1 AND state = 'completed' AND EXISTS (
      SELECT 1 FROM (
        SELECT e.payload->>'artifactId' AS id, string_agg(part->>'text', '' ORDER BY e.seq, ord) AS text
        FROM run_event e, jsonb_array_elements(e.payload->'parts') WITH ORDINALITY AS p (part, ord)
        WHERE e.org_id = t.org_id AND e.task_id = t.id AND e.type = 'task.artifact' AND e.seq >= (
          SELECT max(seq) FROM run_event b WHERE b.org_id = e.org_id AND b.run_id = e.run_id AND b.task_id = e.task_id
            AND b.type = 'task.artifact' AND b.payload->>'artifactId' = e.payload->>'artifactId' AND NOT (b.payload->>'append')::boolean)
        GROUP BY 1) told
      FULL JOIN (
        SELECT a.id, string_agg(part->>'text', '' ORDER BY ord) AS text
        FROM artifact a, jsonb_array_elements(a.parts) WITH ORDINALITY AS p (part, ord)
        WHERE a.org_id = t.org_id AND a.task_id = t.id GROUP BY 1) kept USING (id)
      WHERE coalesce(told.text, '') <> coalesce(kept.text, ''))`,
};

/**
 * What in an organization's recorded runs breaks a promise of ours: one line for each promise and row, none when all
 * hold. It reads what the database holds after a fault, and asks no process of ours.
 */
export const findBrokenPromises = async (database: TestDatabase, orgId: string): Promise<string[]> => {
  const broken: string[] = [];
  for (const [promise, text] of Object.entries(PROMISES)) {
    const rows = await database.inspect<{ id: string }>(text, [orgId]);
    broken.push(...rows.map(({ id }) => `${promise}: ${id}`));
  }
  return broken;
};

const PATIENCE_MS = 60_000;
const LOOK_MS = 5;

/** Resolves as soon as the look finds something; rejects after a minute. */
export const whenSeen = async <T>(what: string, look: () => Promise<T | undefined> | T | undefined): Promise<T> => {
  const until = Date.now() + PATIENCE_MS;
  while (Date.now() < until) {
    const seen = await look();
    if (seen !== undefined) return seen;
    await new Promise((resolve) => {
      setTimeout(resolve, LOOK_MS);
    });
  }
  throw new Error(`Not seen within a minute: ${what}`);
};

/** Resolves with the first row as soon as the query gives one. A database that is away has no row. */
export const whenRow = (
  database: TestDatabase,
  text: string,
  values: readonly unknown[] = [],
): Promise<Record<string, unknown>> =>
  whenSeen(text, () =>
    database.inspect<Record<string, unknown>>(text, values).then(
      ([row]) => row,
      () => undefined,
    ),
  );
