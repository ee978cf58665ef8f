-- Keep semicolons out of comments: Prisma's schema engine splits this file at every one of them.
-- What a suspended run waits for: kind, task and position of the step, and the approval's id where it is one.
ALTER TABLE run ADD COLUMN waits_for jsonb;
-- What this run may still cost of its organization's and key's limits, while somebody works on it.
ALTER TABLE run ADD COLUMN reserved_usd numeric(14, 8) NOT NULL DEFAULT 0;
CREATE INDEX run_reserved ON run (org_id) WHERE reserved_usd > 0;

ALTER TABLE step ADD COLUMN server text;
ALTER TABLE step ADD COLUMN duration_ms integer;

-- Null: no limit of the key's own.
ALTER TABLE api_key ADD COLUMN monthly_spend_usd numeric(14, 8) CHECK (monthly_spend_usd >= 0);

-- Values that the agents of one run tree share: written once each, never changed.
CREATE TABLE run_data (
  org_id text NOT NULL,
  run_id text NOT NULL,
  name text NOT NULL,
  value jsonb NOT NULL,
  task_id text NOT NULL,
  agent text NOT NULL,
  position integer NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, run_id, name)
);
ALTER TABLE run_data ENABLE ROW LEVEL SECURITY;
ALTER TABLE run_data FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON run_data USING (org_id = nullif(current_setting('app.org_id', true), ''));
GRANT SELECT ON run_data TO shaman_internal, shaman_worker, shaman_web;
GRANT INSERT ON run_data TO shaman_worker;

-- A call that is entered again may use what its subtree has left, which only the usage of its tasks tells.
GRANT SELECT ON usage TO shaman_internal;

-- A run asks one question at a time, so one answer or decision may be open.
DROP INDEX task_command_one_answer;
CREATE UNIQUE INDEX task_command_one_answer ON task_command (org_id, run_id)
  WHERE kind IN ('answer', 'approve', 'refuse') AND applied_at IS NULL;
