-- When an authorization server refused for good to renew an authorization: then a person has to authorize again.
ALTER TABLE mcp_authorization ADD COLUMN expired_at timestamptz;
GRANT UPDATE (expired_at) ON mcp_authorization TO shaman_internal;

-- What a run is the first to see of a source of tools is approved by that, which is audited where it is written.
GRANT INSERT (org_id, actor, action, resource, result, agent, tool, run_id, task_id, trace_id, user_id, server, protocol,
  duration_ms, ip, details) ON audit_log TO shaman_internal;
