-- Keep semicolons out of comments and bodies: Prisma's schema engine splits this file at every one of them.
-- The whole model of the first version. Ids are text with a prefix (packages/kernel, ids.ts), every tenant row has
-- org_id, and primary, unique and foreign keys carry it, because PostgreSQL checks those without row-level security.

CREATE TABLE organization (
  id text PRIMARY KEY,
  slug text NOT NULL UNIQUE,
  name text NOT NULL,
  settings jsonb NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE "user" (
  id text PRIMARY KEY,
  email text NOT NULL UNIQUE,
  name text NOT NULL,
  identity_id text UNIQUE,
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE membership (
  org_id text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  user_id text NOT NULL REFERENCES "user" (id) ON DELETE CASCADE,
  role text NOT NULL CHECK (role IN ('owner', 'admin', 'member', 'viewer')),
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, user_id)
);
CREATE INDEX membership_user ON membership (user_id);

-- secret_hash is the SHA-256 of the whole key, replaced_by is the key that a rotation made in its place.
-- rate_per_second: null is the default of the installation, 0 is no limit.
CREATE TABLE api_key (
  org_id text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  id text NOT NULL,
  name text NOT NULL,
  prefix text NOT NULL,
  secret_hash bytea NOT NULL UNIQUE,
  owner_id text NOT NULL,
  rate_per_second integer CHECK (rate_per_second >= 0),
  priority integer CHECK (priority BETWEEN 1 AND 5),
  allowed_ips text[] NOT NULL DEFAULT '{}',
  created_by text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz,
  revoked_at timestamptz,
  replaced_by text,
  last_used_at timestamptz,
  PRIMARY KEY (org_id, id)
);
CREATE INDEX api_key_list ON api_key (org_id, created_at DESC, id DESC);

-- Permiso's shape: a subject (user, key, role) may do an action on a resource path, a path that ends in /* covers what is below.
CREATE TABLE "grant" (
  org_id text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  id text NOT NULL,
  subject text NOT NULL,
  action text NOT NULL,
  resource text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, id),
  UNIQUE (org_id, subject, action, resource)
);

CREATE TABLE secret (
  org_id text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  id text NOT NULL,
  name text NOT NULL,
  origin text NOT NULL,
  sealed text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, id)
);

CREATE TABLE model_credential (
  org_id text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  provider text NOT NULL,
  kind text NOT NULL CHECK (kind IN ('openai', 'anthropic', 'openai-compatible')),
  base_url text,
  secret_id text,
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, provider),
  FOREIGN KEY (org_id, secret_id) REFERENCES secret (org_id, id)
);

-- Agents from Git. live_commit is what new runs get, it changes only in the transaction that has stored everything of that commit.
CREATE TABLE repository (
  org_id text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  id text NOT NULL,
  name text NOT NULL,
  url text NOT NULL,
  branch text NOT NULL,
  directory text NOT NULL DEFAULT '',
  secret_id text,
  sync_every_seconds integer CHECK (sync_every_seconds >= 10),
  live_commit text,
  seen_commit text,
  sync_state text NOT NULL DEFAULT 'never' CHECK (sync_state IN ('never', 'syncing', 'ok', 'failed')),
  sync_error jsonb,
  problems jsonb NOT NULL DEFAULT '[]',
  sync_token text,
  sync_until timestamptz,
  default_agent text,
  synced_at timestamptz,
  attempted_at timestamptz,
  next_sync_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, id),
  UNIQUE (org_id, name),
  FOREIGN KEY (org_id, secret_id) REFERENCES secret (org_id, id)
);
CREATE INDEX repository_due ON repository (next_sync_at) WHERE next_sync_at IS NOT NULL;

-- One row a synced commit: which version each path had, its aliases and its default agent. A run pins a snapshot by commit.
CREATE TABLE snapshot (
  org_id text NOT NULL,
  repository_id text NOT NULL,
  commit text NOT NULL,
  manifest jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, repository_id, commit),
  FOREIGN KEY (org_id, repository_id) REFERENCES repository (org_id, id) ON DELETE CASCADE
);

CREATE TABLE blob (
  org_id text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  hash text NOT NULL,
  content text NOT NULL,
  PRIMARY KEY (org_id, hash)
);

-- The live agents of every repository, for lists and resolution. An exposed name is unique in its organization.
CREATE TABLE agent (
  org_id text NOT NULL,
  id text NOT NULL,
  repository_id text NOT NULL,
  path text NOT NULL,
  name text NOT NULL,
  description text NOT NULL,
  exposed boolean NOT NULL,
  model text,
  tags text[] NOT NULL DEFAULT '{}',
  version_id text NOT NULL,
  live boolean NOT NULL DEFAULT true,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, id),
  UNIQUE (org_id, repository_id, path),
  FOREIGN KEY (org_id, repository_id) REFERENCES repository (org_id, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX agent_exposed_name ON agent (org_id, name) WHERE exposed AND live;
CREATE INDEX agent_list ON agent (org_id, name, id) WHERE live;
CREATE INDEX agent_tags ON agent USING gin (tags) WHERE live;

-- Immutable: definition and blobs by content. first_commit is where this content appeared first.
CREATE TABLE agent_version (
  org_id text NOT NULL,
  id text NOT NULL,
  agent_id text NOT NULL,
  first_commit text NOT NULL,
  content_hash text NOT NULL,
  definition jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, id),
  UNIQUE (org_id, agent_id, content_hash),
  FOREIGN KEY (org_id, agent_id) REFERENCES agent (org_id, id) ON DELETE CASCADE
);

CREATE TABLE alias (
  org_id text NOT NULL,
  repository_id text NOT NULL,
  name text NOT NULL,
  target text NOT NULL,
  PRIMARY KEY (org_id, repository_id, name),
  FOREIGN KEY (org_id, repository_id) REFERENCES repository (org_id, id) ON DELETE CASCADE
);
CREATE INDEX alias_name ON alias (org_id, name);

-- Runs. A client's own context id is its own: the same text from another principal is another context.
CREATE TABLE context (
  org_id text NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  principal text NOT NULL,
  id text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, principal, id)
);

-- A run is a tree of tasks under one lease. `lease_epoch` fences every write, `wake` numbers the jobs that wake it.
CREATE TABLE run (
  org_id text NOT NULL,
  id text NOT NULL,
  root_task_id text NOT NULL,
  context_id text NOT NULL,
  principal text NOT NULL,
  api_key_id text,
  user_id text,
  agent text NOT NULL,
  repository_id text NOT NULL,
  commit text NOT NULL,
  state text NOT NULL CHECK (state IN ('submitted', 'working', 'suspended', 'completed', 'failed', 'canceled', 'rejected')),
  suspended_on text CHECK (suspended_on IN ('input', 'approval')),
  priority integer NOT NULL DEFAULT 3,
  wake integer NOT NULL DEFAULT 1,
  wake_at timestamptz,
  enqueued_at timestamptz NOT NULL DEFAULT now(),
  lease_epoch integer NOT NULL DEFAULT 0,
  lease_until timestamptz,
  worker text,
  attempts integer NOT NULL DEFAULT 0,
  barren_claims integer NOT NULL DEFAULT 0,
  last_seq integer NOT NULL DEFAULT 1,
  limits jsonb NOT NULL DEFAULT '{}',
  deadline timestamptz,
  time_left_ms bigint,
  steps integer NOT NULL DEFAULT 0,
  input_tokens bigint NOT NULL DEFAULT 0,
  output_tokens bigint NOT NULL DEFAULT 0,
  cost_usd numeric(14, 8) NOT NULL DEFAULT 0,
  cost_known boolean NOT NULL DEFAULT true,
  error jsonb,
  traceparent text,
  created_at timestamptz NOT NULL DEFAULT now(),
  started_at timestamptz,
  finished_at timestamptz
);
CREATE INDEX run_list ON run (org_id, created_at DESC, id DESC);
CREATE INDEX run_list_agent ON run (org_id, agent, created_at DESC, id DESC);
CREATE INDEX run_list_state ON run (org_id, state, created_at DESC, id DESC);
CREATE INDEX run_pending ON run (enqueued_at) WHERE finished_at IS NULL;
CREATE INDEX run_pending_org ON run (org_id) WHERE finished_at IS NULL;

-- A plan made while a table is empty is kept, and between indexes that then look alike PostgreSQL takes the newest one.
-- So the index that the call path needs comes after those of the lists.
ALTER TABLE run ADD PRIMARY KEY (org_id, id);

CREATE TABLE task (
  org_id text NOT NULL,
  id text NOT NULL,
  run_id text NOT NULL,
  parent_task_id text,
  context_id text NOT NULL,
  principal text NOT NULL,
  agent text NOT NULL,
  state text NOT NULL CHECK (state IN ('submitted', 'working', 'completed', 'failed', 'canceled', 'rejected', 'input_required', 'auth_required')),
  status_message jsonb,
  status_at timestamptz NOT NULL DEFAULT now(),
  metadata jsonb,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX task_run ON task (org_id, run_id, created_at);
CREATE INDEX task_list ON task (org_id, principal, agent, status_at DESC, id DESC) WHERE parent_task_id IS NULL;
CREATE INDEX task_context ON task (org_id, principal, context_id, created_at);
ALTER TABLE task ADD PRIMARY KEY (org_id, id);
ALTER TABLE task ADD FOREIGN KEY (org_id, run_id) REFERENCES run (org_id, id) ON DELETE CASCADE;

-- dedupe_key is principal, agent and the caller's message id (or Idempotency-Key), null where the agent turned it off.
CREATE TABLE message (
  org_id text NOT NULL,
  id text NOT NULL,
  run_id text NOT NULL,
  task_id text NOT NULL,
  position integer NOT NULL,
  role text NOT NULL CHECK (role IN ('user', 'agent')),
  content jsonb NOT NULL,
  content_hash text,
  dedupe_key text,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, id),
  UNIQUE (org_id, task_id, position)
);
CREATE UNIQUE INDEX message_dedupe ON message (org_id, dedupe_key) WHERE dedupe_key IS NOT NULL;

-- What anyone but the lease holder wants of a run.
CREATE TABLE task_command (
  org_id text NOT NULL,
  id text NOT NULL,
  run_id text NOT NULL,
  task_id text NOT NULL,
  kind text NOT NULL CHECK (kind IN ('cancel', 'answer', 'approve', 'refuse', 'retry')),
  payload jsonb NOT NULL DEFAULT '{}',
  actor text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  applied_at timestamptz,
  PRIMARY KEY (org_id, id),
  FOREIGN KEY (org_id, run_id) REFERENCES run (org_id, id) ON DELETE CASCADE
);
CREATE INDEX task_command_open ON task_command (org_id, run_id) WHERE applied_at IS NULL;
CREATE UNIQUE INDEX task_command_one_answer ON task_command (org_id, task_id) WHERE kind = 'answer' AND applied_at IS NULL;

CREATE TABLE step (
  org_id text NOT NULL,
  id text NOT NULL,
  run_id text NOT NULL,
  task_id text NOT NULL,
  position integer NOT NULL,
  kind text NOT NULL CHECK (kind IN ('model', 'tool', 'call', 'input', 'approval')),
  name text NOT NULL,
  input_hash text NOT NULL,
  state text NOT NULL CHECK (state IN ('started', 'done', 'failed', 'unknown')),
  input jsonb,
  output jsonb,
  child_task_id text,
  lease_epoch integer NOT NULL,
  started_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz,
  PRIMARY KEY (org_id, id)
);
CREATE INDEX step_run ON step (org_id, run_id, started_at);
ALTER TABLE step ADD UNIQUE (org_id, task_id, position);

CREATE TABLE artifact (
  org_id text NOT NULL,
  task_id text NOT NULL,
  id text NOT NULL,
  run_id text NOT NULL,
  position integer NOT NULL,
  name text,
  description text,
  parts jsonb NOT NULL,
  metadata jsonb,
  complete boolean NOT NULL,
  bytes integer NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, task_id, id)
);

CREATE TABLE run_event (
  org_id text NOT NULL,
  run_id text NOT NULL,
  seq integer NOT NULL,
  task_id text NOT NULL,
  type text NOT NULL,
  payload jsonb NOT NULL,
  lease_epoch integer NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, run_id, seq)
);

-- One row a model step, for Usage by day, agent, model and key.
CREATE TABLE usage (
  org_id text NOT NULL,
  step_id text NOT NULL,
  run_id text NOT NULL,
  task_id text NOT NULL,
  agent text NOT NULL,
  api_key_id text,
  model text NOT NULL,
  input_tokens integer NOT NULL,
  cached_input_tokens integer NOT NULL,
  output_tokens integer NOT NULL,
  cost_usd numeric(14, 8),
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, step_id)
);
CREATE INDEX usage_at ON usage (org_id, at);

-- Audit: the row in the act's own transaction, unchained, a sealer job chains what lies below the snapshot horizon.
CREATE TABLE audit_log (
  org_id text NOT NULL,
  id bigint GENERATED ALWAYS AS IDENTITY,
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  at timestamptz NOT NULL DEFAULT now(),
  actor text NOT NULL,
  action text NOT NULL,
  resource text NOT NULL,
  result text NOT NULL CHECK (result IN ('ok', 'denied', 'failed')),
  agent text,
  tool text,
  run_id text,
  task_id text,
  trace_id text,
  user_id text,
  server text,
  protocol text,
  duration_ms integer,
  ip text,
  details jsonb,
  PRIMARY KEY (org_id, id)
);
CREATE INDEX audit_log_list ON audit_log (org_id, at DESC, id DESC);
CREATE INDEX audit_log_seal ON audit_log (org_id, xid, id);

CREATE TABLE audit_seal (
  org_id text NOT NULL,
  position bigint NOT NULL,
  audit_id bigint NOT NULL,
  xid xid8 NOT NULL,
  hash bytea NOT NULL,
  sealed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, position),
  UNIQUE (org_id, audit_id)
);

-- Not tenant data: token ids that were used, kept until they would have expired.
CREATE UNLOGGED TABLE used_jti (
  jti text PRIMARY KEY,
  expires_at timestamptz NOT NULL
);
CREATE INDEX used_jti_expiry ON used_jti (expires_at);

-- Row-level security, forced on every tenant table.
ALTER TABLE membership ENABLE ROW LEVEL SECURITY;
ALTER TABLE membership FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON membership USING (org_id = nullif(current_setting('app.org_id', true), ''));
ALTER TABLE api_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE api_key FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON api_key USING (org_id = nullif(current_setting('app.org_id', true), ''));
ALTER TABLE "grant" ENABLE ROW LEVEL SECURITY;
ALTER TABLE "grant" FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON "grant" USING (org_id = nullif(current_setting('app.org_id', true), ''));
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE secret FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON secret USING (org_id = nullif(current_setting('app.org_id', true), ''));
ALTER TABLE model_credential ENABLE ROW LEVEL SECURITY;
ALTER TABLE model_credential FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON model_credential USING (org_id = nullif(current_setting('app.org_id', true), ''));
ALTER TABLE repository ENABLE ROW LEVEL SECURITY;
ALTER TABLE repository FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON repository USING (org_id = nullif(current_setting('app.org_id', true), ''));
ALTER TABLE snapshot ENABLE ROW LEVEL SECURITY;
ALTER TABLE snapshot FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON snapshot USING (org_id = nullif(current_setting('app.org_id', true), ''));
ALTER TABLE blob ENABLE ROW LEVEL SECURITY;
ALTER TABLE blob FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON blob USING (org_id = nullif(current_setting('app.org_id', true), ''));
ALTER TABLE agent ENABLE ROW LEVEL SECURITY;
ALTER TABLE agent FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON agent USING (org_id = nullif(current_setting('app.org_id', true), ''));
ALTER TABLE agent_version ENABLE ROW LEVEL SECURITY;
ALTER TABLE agent_version FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON agent_version USING (org_id = nullif(current_setting('app.org_id', true), ''));
ALTER TABLE alias ENABLE ROW LEVEL SECURITY;
ALTER TABLE alias FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON alias USING (org_id = nullif(current_setting('app.org_id', true), ''));
ALTER TABLE context ENABLE ROW LEVEL SECURITY;
ALTER TABLE context FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON context USING (org_id = nullif(current_setting('app.org_id', true), ''));
ALTER TABLE run ENABLE ROW LEVEL SECURITY;
ALTER TABLE run FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON run USING (org_id = nullif(current_setting('app.org_id', true), ''));
ALTER TABLE task ENABLE ROW LEVEL SECURITY;
ALTER TABLE task FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON task USING (org_id = nullif(current_setting('app.org_id', true), ''));
ALTER TABLE message ENABLE ROW LEVEL SECURITY;
ALTER TABLE message FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON message USING (org_id = nullif(current_setting('app.org_id', true), ''));
ALTER TABLE task_command ENABLE ROW LEVEL SECURITY;
ALTER TABLE task_command FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON task_command USING (org_id = nullif(current_setting('app.org_id', true), ''));
ALTER TABLE step ENABLE ROW LEVEL SECURITY;
ALTER TABLE step FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON step USING (org_id = nullif(current_setting('app.org_id', true), ''));
ALTER TABLE artifact ENABLE ROW LEVEL SECURITY;
ALTER TABLE artifact FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON artifact USING (org_id = nullif(current_setting('app.org_id', true), ''));
ALTER TABLE run_event ENABLE ROW LEVEL SECURITY;
ALTER TABLE run_event FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON run_event USING (org_id = nullif(current_setting('app.org_id', true), ''));
ALTER TABLE usage ENABLE ROW LEVEL SECURITY;
ALTER TABLE usage FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON usage USING (org_id = nullif(current_setting('app.org_id', true), ''));
ALTER TABLE audit_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_log FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON audit_log USING (org_id = nullif(current_setting('app.org_id', true), ''));
ALTER TABLE audit_seal ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_seal FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON audit_seal USING (org_id = nullif(current_setting('app.org_id', true), ''));

ALTER TABLE organization ENABLE ROW LEVEL SECURITY;
ALTER TABLE organization FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON organization USING (id = nullif(current_setting('app.org_id', true), ''));

-- A person may belong to several organizations, one sees the people of one's own.
ALTER TABLE "user" ENABLE ROW LEVEL SECURITY;
ALTER TABLE "user" FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON "user" FOR SELECT
  USING (EXISTS (SELECT 1 FROM membership m WHERE m.user_id = "user".id));

ALTER TABLE used_jti ENABLE ROW LEVEL SECURITY;
ALTER TABLE used_jti FORCE ROW LEVEL SECURITY;
CREATE POLICY shared ON used_jti USING (true);

-- The few acts across organizations: host to organization, the sweeper's search, syncs that are due, sealing, people.
CREATE POLICY system ON organization TO shaman_system USING (true);
CREATE POLICY system ON "user" TO shaman_system USING (true);
CREATE POLICY system ON run FOR SELECT TO shaman_system USING (true);
CREATE POLICY system ON repository FOR SELECT TO shaman_system USING (true);
CREATE POLICY system ON audit_log FOR SELECT TO shaman_system USING (true);
CREATE POLICY system ON audit_seal FOR SELECT TO shaman_system USING (true);
GRANT SELECT ON organization, "user", run, repository, audit_log, audit_seal TO shaman_system;
GRANT INSERT, UPDATE ON organization, "user" TO shaman_system;

-- Who may write what (architecture: one role a process kind). Nobody may change or delete audit rows.
GRANT SELECT ON organization, membership, api_key, "grant", repository, snapshot, blob, agent, agent_version, alias,
  context, run, task, message, task_command, artifact, run_event TO shaman_public;
GRANT INSERT ON context, run, task, message, run_event, task_command TO shaman_public;
GRANT UPDATE (wake, wake_at, enqueued_at) ON run TO shaman_public;
GRANT UPDATE (last_used_at) ON api_key TO shaman_public;

GRANT SELECT ON organization, snapshot, blob, agent, agent_version, alias, repository, run, task, message, step, artifact,
  secret, model_credential TO shaman_internal;
GRANT INSERT ON step, task TO shaman_internal;
GRANT SELECT, INSERT, DELETE ON used_jti TO shaman_internal;

GRANT SELECT ON ALL TABLES IN SCHEMA public TO shaman_worker;
GRANT INSERT, UPDATE ON run, task, message, task_command, step, artifact, usage, repository, snapshot, blob, agent, agent_version,
  alias TO shaman_worker;
GRANT INSERT ON run_event, audit_seal TO shaman_worker;
GRANT DELETE ON snapshot, alias, blob, used_jti TO shaman_worker;

GRANT SELECT ON ALL TABLES IN SCHEMA public TO shaman_web;
GRANT INSERT, UPDATE ON organization, membership, api_key, "grant", secret, model_credential, repository TO shaman_web;
GRANT DELETE ON membership, "grant", secret, model_credential, repository TO shaman_web;
GRANT INSERT ON task_command TO shaman_web;
GRANT UPDATE (wake, wake_at, enqueued_at) ON run TO shaman_web;

-- Nobody chooses an audit row's number, transaction or time: a row dated into the sealed past would hide from the sealer.
GRANT INSERT (org_id, actor, action, resource, result, agent, tool, run_id, task_id, trace_id, user_id, server, protocol,
  duration_ms, ip, details) ON audit_log TO shaman_public, shaman_worker, shaman_web;
