-- Calls of outside agents that were open when their task failed or was canceled: the other side's task is to be canceled
-- too. A row is written together with the end of our task, and goes when the agent was asked, or cannot be.
CREATE TABLE outside_cancel (
  org_id text NOT NULL,
  task_id text NOT NULL,
  position integer NOT NULL,
  run_id text NOT NULL,
  attempts integer NOT NULL DEFAULT 0,
  due_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, task_id, position)
);
CREATE INDEX outside_cancel_due ON outside_cancel (due_at);

ALTER TABLE outside_cancel ENABLE ROW LEVEL SECURITY;
ALTER TABLE outside_cancel FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON outside_cancel USING (org_id = nullif(current_setting('app.org_id', true), ''));
-- Workers look in all organizations for what is due.
CREATE POLICY system ON outside_cancel FOR SELECT TO shaman_system USING (true);
GRANT SELECT ON outside_cancel TO shaman_system;
GRANT SELECT, INSERT, UPDATE, DELETE ON outside_cancel TO shaman_worker;
-- Whoever calls an agent keeps its card fresh.
GRANT UPDATE (card, card_etag, card_last_modified, card_fetched_at, card_expires_at, card_may_be_stale, card_error)
  ON external_agent TO shaman_worker;

-- Whose signature a card must have, or null where none is demanded.
ALTER TABLE external_agent ADD COLUMN card_trust jsonb;
