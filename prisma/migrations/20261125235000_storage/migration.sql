-- Content of artifacts that is too large for their rows. A row is written before the first byte reaches the store, so that
-- nothing can lie there that nobody knows of. pending until a finished run is seen to use it, deleting until it is gone.
CREATE TABLE stored_object (
  org_id text NOT NULL,
  id text NOT NULL,
  run_id text NOT NULL,
  task_id text NOT NULL,
  artifact_id text NOT NULL,
  key text NOT NULL,
  media_type text NOT NULL,
  filename text,
  bytes bigint,
  sha256 text,
  state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'kept', 'deleting')),
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, id)
);
CREATE INDEX stored_object_run ON stored_object (org_id, run_id);
CREATE INDEX stored_object_open ON stored_object (created_at) WHERE state <> 'kept';

ALTER TABLE stored_object ENABLE ROW LEVEL SECURITY;
ALTER TABLE stored_object FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON stored_object USING (org_id = nullif(current_setting('app.org_id', true), ''));

-- Retention looks across organizations for what is left to decide or to delete.
CREATE POLICY system ON stored_object FOR SELECT TO shaman_system USING (true);
GRANT SELECT ON stored_object TO shaman_system, shaman_public, shaman_web;
GRANT SELECT, INSERT, UPDATE, DELETE ON stored_object TO shaman_worker;

-- Artifacts may add up to more than an integer holds.
ALTER TABLE artifact ALTER COLUMN bytes TYPE bigint;

-- When the run's artifacts were deleted for their age. The index serves the search for those that are due, its condition
-- keeps it from every statement of the call path.
ALTER TABLE run ADD COLUMN artifacts_expired_at timestamptz;
CREATE INDEX run_artifacts_due ON run (org_id, finished_at) WHERE finished_at IS NOT NULL AND artifacts_expired_at IS NULL;
