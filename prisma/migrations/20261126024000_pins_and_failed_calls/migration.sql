-- Keep semicolons out of comments: Prisma's schema engine splits this file at every one of them.
-- A model call that gave no step is paid for as well. Its row has an id of its own in the place of a step's, and the
-- place of the step that it should have been.
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
-- Runs under way have pinned what their first call of a repository took. The owner sees rows of all organizations for
-- as long as these statements take.
ALTER TABLE step NO FORCE ROW LEVEL SECURITY;
ALTER TABLE run NO FORCE ROW LEVEL SECURITY;
INSERT INTO run_pin (org_id, run_id, repository_id, commit)
SELECT DISTINCT ON (s.org_id, s.run_id, s.input->'callee'->>'repositoryId') s.org_id, s.run_id,
  s.input->'callee'->>'repositoryId', s.input->'callee'->>'commit'
FROM run r JOIN step s ON s.org_id = r.org_id AND s.run_id = r.id
WHERE r.finished_at IS NULL AND s.kind = 'call' AND s.input->'callee'->>'repositoryId' IS NOT NULL
  AND s.input->'callee'->>'commit' IS NOT NULL
ORDER BY s.org_id, s.run_id, s.input->'callee'->>'repositoryId', s.started_at, s.id;
-- Runs whose artifacts have expired still hold their texts: they are due once more.
UPDATE run SET artifacts_expired_at = NULL WHERE artifacts_expired_at IS NOT NULL;
ALTER TABLE step FORCE ROW LEVEL SECURITY;
ALTER TABLE run FORCE ROW LEVEL SECURITY;
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
