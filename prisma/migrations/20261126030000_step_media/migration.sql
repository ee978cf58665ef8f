-- Images and documents that tools gave, for the attempts that replay their steps: written with the step, in one statement,
-- and deleted when the run is over. A step's row holds what they are.
CREATE TABLE step_media (
  org_id text NOT NULL,
  run_id text NOT NULL,
  task_id text NOT NULL,
  sha256 text NOT NULL,
  base64 text NOT NULL,
  PRIMARY KEY (org_id, task_id, sha256)
);
-- Such content is compressed already.
ALTER TABLE step_media ALTER COLUMN base64 SET STORAGE EXTERNAL;

ALTER TABLE step_media ENABLE ROW LEVEL SECURITY;
ALTER TABLE step_media FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON step_media USING (org_id = nullif(current_setting('app.org_id', true), ''));
GRANT SELECT, INSERT ON step_media TO shaman_worker;
GRANT SELECT ON step_media TO shaman_internal;

-- What is no longer needed is deleted across organizations, by a role that sees whose it is and not what.
CREATE POLICY system_read ON step_media FOR SELECT TO shaman_system USING (true);
CREATE POLICY system_forget ON step_media FOR DELETE TO shaman_system USING (
  EXISTS (SELECT 1 FROM run r WHERE r.org_id = step_media.org_id AND r.id = step_media.run_id AND r.finished_at IS NOT NULL));
GRANT SELECT (org_id, run_id, task_id, sha256), DELETE ON step_media TO shaman_system;
