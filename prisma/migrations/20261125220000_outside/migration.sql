-- Agents of other organizations, by the name that this organization gave them. The card is kept as we understood it.
-- credential_origin is the interface's origin: where the credential, or the token got with it, may go. `credential` holds
-- what is no secret of it, the secret row's own origin is where the secret itself may go (for OAuth the token endpoint's).
CREATE TABLE external_agent (
  org_id text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  id text NOT NULL,
  name text NOT NULL,
  card_url text NOT NULL,
  card jsonb NOT NULL,
  card_etag text,
  card_last_modified text,
  card_fetched_at timestamptz NOT NULL,
  card_expires_at timestamptz NOT NULL,
  card_may_be_stale boolean NOT NULL,
  card_error text,
  credential_kind text NOT NULL DEFAULT 'none' CHECK (credential_kind IN ('none', 'apiKey', 'bearer', 'clientCredentials')),
  credential_origin text,
  credential jsonb NOT NULL DEFAULT '{}',
  secret_id text,
  repeatable boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, id),
  UNIQUE (org_id, name),
  UNIQUE (org_id, card_url),
  FOREIGN KEY (org_id, secret_id) REFERENCES secret (org_id, id),
  CHECK ((credential_kind = 'none') = (secret_id IS NULL)),
  CHECK ((credential_kind = 'none') = (credential_origin IS NULL))
);

-- Figures by the hour. Each process adds up its calls in memory and writes them here every few seconds.
CREATE TABLE external_agent_health (
  org_id text NOT NULL,
  external_agent_id text NOT NULL,
  hour timestamptz NOT NULL,
  calls integer NOT NULL,
  errors integer NOT NULL,
  latency_ms_sum bigint NOT NULL,
  latency_ms_max integer NOT NULL,
  last_ok_at timestamptz,
  last_error_at timestamptz,
  last_error text,
  PRIMARY KEY (org_id, external_agent_id, hour),
  FOREIGN KEY (org_id, external_agent_id) REFERENCES external_agent (org_id, id) ON DELETE CASCADE
);

ALTER TABLE external_agent ENABLE ROW LEVEL SECURITY;
ALTER TABLE external_agent FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON external_agent USING (org_id = nullif(current_setting('app.org_id', true), ''));
ALTER TABLE external_agent_health ENABLE ROW LEVEL SECURITY;
ALTER TABLE external_agent_health FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON external_agent_health USING (org_id = nullif(current_setting('app.org_id', true), ''));

GRANT SELECT ON external_agent, external_agent_health TO shaman_internal, shaman_worker, shaman_web;
GRANT INSERT, UPDATE, DELETE ON external_agent TO shaman_web;
GRANT UPDATE (card, card_etag, card_last_modified, card_fetched_at, card_expires_at, card_may_be_stale, card_error)
  ON external_agent TO shaman_internal;
GRANT INSERT, UPDATE, DELETE ON external_agent_health TO shaman_internal, shaman_web;
