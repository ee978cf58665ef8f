-- A closed stream looks the same whether the run is canceled or goes on elsewhere. Only in the first case is an outside
-- agent's task to be canceled too, so the internal server asks for the command.
GRANT SELECT (org_id, run_id, kind, applied_at) ON task_command TO shaman_internal;
