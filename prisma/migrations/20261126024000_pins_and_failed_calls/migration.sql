-- Keep semicolons out of comments: Prisma's schema engine splits this file at every one of them.
-- A model call that gave no step is paid for as well. Its row has an id of its own, and the place of the step that it
-- should have been, rows of steps have their step's id.
ALTER TABLE usage RENAME COLUMN step_id TO id;
ALTER TABLE usage ADD COLUMN failed_position integer;
CREATE INDEX usage_failed ON usage (org_id, run_id) WHERE failed_position IS NOT NULL;

-- The commit at which a run takes another repository than its own: one row, and whoever comes first writes it.
CREATE TABLE run_pin (
  org_id text NOT NULL,
  run_id text NOT NULL,
  repository_id text NOT NULL,
  commit text NOT NULL,
  PRIMARY KEY (org_id, run_id, repository_id)
);
ALTER TABLE run_pin ENABLE ROW LEVEL SECURITY;
ALTER TABLE run_pin FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON run_pin USING (org_id = nullif(current_setting('app.org_id', true), ''));
GRANT SELECT, INSERT ON run_pin TO shaman_internal;
GRANT SELECT ON run_pin TO shaman_worker, shaman_web;

-- The sweep looks across organizations for tasks that a call began while their run ended, and needs to read no more of them.
CREATE INDEX task_open_below ON task (org_id, run_id)
  WHERE parent_task_id IS NOT NULL AND state NOT IN ('completed', 'failed', 'canceled', 'rejected');
CREATE POLICY system ON task FOR SELECT TO shaman_system USING (true);
GRANT SELECT (org_id, id, run_id, parent_task_id, state) ON task TO shaman_system;

-- Retention takes the texts out of events and shared values that are too old, of runs that have ended. Nothing else changes
-- them.
GRANT UPDATE (payload) ON run_event TO shaman_worker;
GRANT UPDATE (value) ON run_data TO shaman_worker;
CREATE POLICY finished_only ON run_event AS RESTRICTIVE FOR UPDATE USING (EXISTS (
  SELECT 1 FROM run r WHERE r.org_id = run_event.org_id AND r.id = run_event.run_id AND r.finished_at IS NOT NULL));
CREATE POLICY finished_only ON run_data AS RESTRICTIVE FOR UPDATE USING (EXISTS (
  SELECT 1 FROM run r WHERE r.org_id = run_data.org_id AND r.id = run_data.run_id AND r.finished_at IS NOT NULL));
