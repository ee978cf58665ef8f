-- The rows that the call path changes are found by full key and by nothing else, whatever the planner thinks of tables
-- that were empty when it planned (docs/decisions/004-plans-that-cannot-age.md): the tenant's policy of these three tables
-- is a check, never a way in.
ALTER POLICY tenant ON run USING (org_id || '' = nullif(current_setting('app.org_id', true), ''));
ALTER POLICY tenant ON task USING (org_id || '' = nullif(current_setting('app.org_id', true), ''));
ALTER POLICY tenant ON task_command USING (org_id || '' = nullif(current_setting('app.org_id', true), ''));

-- A claim and the batches of a run that goes on change no column of an index, so they leave the indexes alone. The list by
-- state finds ended runs by this column, and live ones among the pending.
ALTER TABLE run ADD COLUMN ended text;
UPDATE run SET ended = state WHERE finished_at IS NOT NULL;
DROP INDEX run_list_state;
CREATE INDEX run_list_ended ON run (org_id, ended, created_at DESC, id DESC);
ALTER TABLE run SET (fillfactor = 70);

-- Looked up and locked for every call, although the same statement has just written what they point at
-- (docs/decisions/011-foreign-keys-off-the-call-path.md).
ALTER TABLE task DROP CONSTRAINT task_org_id_run_id_fkey;
ALTER TABLE context DROP CONSTRAINT context_org_id_fkey;

-- As in the first migration: of indexes that look alike on an empty table the newest is taken, and that must be the key.
ALTER TABLE run DROP CONSTRAINT run_pkey CASCADE;
ALTER TABLE run ADD PRIMARY KEY (org_id, id);
ALTER TABLE task_command ADD FOREIGN KEY (org_id, run_id) REFERENCES run (org_id, id) ON DELETE CASCADE;
