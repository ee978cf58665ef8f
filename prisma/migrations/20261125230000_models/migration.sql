-- Answers of models that an organization, or an agent of it, wants to reuse: found by a hash of everything that was asked.
-- Nothing depends on a row here, and anyone may lose it.
CREATE TABLE model_response (
  org_id text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  request_hash text NOT NULL,
  response text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL
);
CREATE INDEX model_response_age ON model_response (org_id, created_at DESC);
CREATE INDEX model_response_expiry ON model_response (expires_at);
ALTER TABLE model_response ADD PRIMARY KEY (org_id, request_hash);

ALTER TABLE model_response ENABLE ROW LEVEL SECURITY;
ALTER TABLE model_response FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON model_response USING (org_id = nullif(current_setting('app.org_id', true), ''));

GRANT SELECT, INSERT, UPDATE, DELETE ON model_response TO shaman_internal;
GRANT SELECT, DELETE ON model_response TO shaman_web;

-- What has expired is deleted across organizations, by a role that sees when and not what.
CREATE POLICY system_read ON model_response FOR SELECT TO shaman_system USING (true);
CREATE POLICY system_expire ON model_response FOR DELETE TO shaman_system USING (expires_at <= now());
GRANT SELECT (org_id, request_hash, expires_at), DELETE ON model_response TO shaman_system;
