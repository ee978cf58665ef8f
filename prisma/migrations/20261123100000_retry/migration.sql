-- The sweep looks across organizations for runs that a command waits for, and for retries whose job was lost.
CREATE POLICY system ON task_command FOR SELECT TO shaman_system USING (true);
GRANT SELECT ON task_command TO shaman_system;

-- Asking twice is one retry, as long as no worker has taken it.
CREATE UNIQUE INDEX task_command_one_retry ON task_command (org_id, run_id) WHERE kind = 'retry' AND applied_at IS NULL;
CREATE INDEX task_command_open_retry ON task_command (created_at) WHERE kind = 'retry' AND applied_at IS NULL;
