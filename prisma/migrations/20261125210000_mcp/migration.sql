-- MCP servers that an organization registered. `secret_id` holds headers, sealed for the origin of `url`.
CREATE TABLE mcp_server (
  org_id text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  id text NOT NULL,
  name text NOT NULL,
  url text NOT NULL,
  transport text NOT NULL CHECK (transport IN ('streamable-http', 'sse')),
  stateless boolean NOT NULL DEFAULT false,
  auth text NOT NULL CHECK (auth IN ('none', 'headers', 'oauth')),
  secret_id text,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, id),
  UNIQUE (org_id, name),
  FOREIGN KEY (org_id, secret_id) REFERENCES secret (org_id, id)
);

-- The OAuth state of a registered server, sealed as a whole. Whoever renews it claims `renewing_until` first, and writes only
-- over the version it read.
CREATE TABLE mcp_authorization (
  org_id text NOT NULL,
  server_id text NOT NULL,
  sealed text NOT NULL,
  version integer NOT NULL DEFAULT 1,
  renewing_until timestamptz,
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, server_id),
  FOREIGN KEY (org_id, server_id) REFERENCES mcp_server (org_id, id) ON DELETE CASCADE
);

-- Where tools come from: a registered server (then `id` is its id), a server that an agent file of a repository names by its
-- address, or one of the operator's catalogue. What was there at first sight is approved.
CREATE TABLE mcp_source (
  org_id text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  id text NOT NULL,
  kind text NOT NULL CHECK (kind IN ('registered', 'inline', 'catalogue')),
  server_id text,
  label text NOT NULL,
  first_seen_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, id),
  FOREIGN KEY (org_id, server_id) REFERENCES mcp_server (org_id, id) ON DELETE CASCADE
);
CREATE INDEX mcp_source_list ON mcp_source (org_id, label, id);

-- One row a tool that was ever seen. It is on while `approved_hash` is the hash of what the server says now.
CREATE TABLE mcp_tool (
  org_id text NOT NULL,
  source_id text NOT NULL,
  name text NOT NULL,
  definition jsonb NOT NULL,
  seen_hash text NOT NULL,
  seen_at timestamptz NOT NULL DEFAULT now(),
  approved_hash text,
  approved_at timestamptz,
  approved_by text,
  PRIMARY KEY (org_id, source_id, name),
  FOREIGN KEY (org_id, source_id) REFERENCES mcp_source (org_id, id) ON DELETE CASCADE
);

ALTER TABLE mcp_server ENABLE ROW LEVEL SECURITY;
ALTER TABLE mcp_server FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON mcp_server USING (org_id = nullif(current_setting('app.org_id', true), ''));
ALTER TABLE mcp_authorization ENABLE ROW LEVEL SECURITY;
ALTER TABLE mcp_authorization FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON mcp_authorization USING (org_id = nullif(current_setting('app.org_id', true), ''));
ALTER TABLE mcp_source ENABLE ROW LEVEL SECURITY;
ALTER TABLE mcp_source FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON mcp_source USING (org_id = nullif(current_setting('app.org_id', true), ''));
ALTER TABLE mcp_tool ENABLE ROW LEVEL SECURITY;
ALTER TABLE mcp_tool FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON mcp_tool USING (org_id = nullif(current_setting('app.org_id', true), ''));

-- The internal server sees tools and renews tokens. It cannot approve a tool that is already known.
GRANT SELECT ON mcp_server, mcp_authorization, mcp_source, mcp_tool TO shaman_internal;
GRANT UPDATE (sealed, version, renewing_until, updated_at) ON mcp_authorization TO shaman_internal;
GRANT INSERT ON mcp_source, mcp_tool TO shaman_internal;
GRANT UPDATE (definition, seen_hash, seen_at) ON mcp_tool TO shaman_internal;

GRANT SELECT, INSERT, UPDATE, DELETE ON mcp_server, mcp_authorization, mcp_source, mcp_tool TO shaman_web;
