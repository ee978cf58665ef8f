-- Keep semicolons out of comments and bodies: Prisma's schema engine splits this file at every one of them. In the body of
-- the function below they are written \x3B.
-- What changed that processes remember: one row a changed thing, written by triggers in the change's own transaction, so
-- that a change without its row cannot be. Processes read what is new each second. The row holds ids only.
CREATE TABLE cache_change (
  org_id text NOT NULL,
  position bigint GENERATED ALWAYS AS IDENTITY,
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  what text NOT NULL,
  id text NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, position)
);
CREATE INDEX cache_change_xid ON cache_change (xid);

ALTER TABLE cache_change ENABLE ROW LEVEL SECURITY;
ALTER TABLE cache_change FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON cache_change USING (org_id = nullif(current_setting('app.org_id', true), ''));
-- Read across organizations by one query a second, and tidied up by the worker.
CREATE POLICY system ON cache_change TO shaman_system USING (true);
GRANT SELECT, DELETE ON cache_change TO shaman_system;
-- Nobody chooses the transaction of a change, readers would miss it.
GRANT INSERT (org_id, what, id) ON cache_change TO shaman_web, shaman_worker, shaman_system;
GRANT SELECT ON cache_change TO shaman_web, shaman_worker;

-- Arguments: what changed, the column with the organization, the column with the id, and what that begins with.
CREATE FUNCTION note_cache_change() RETURNS trigger LANGUAGE plpgsql AS E'
BEGIN
  INSERT INTO public.cache_change (org_id, what, id)
  SELECT DISTINCT changed.org_id, TG_ARGV[0], changed.id
  FROM (VALUES (to_jsonb(NEW)), (to_jsonb(OLD))) AS rows (r),
    LATERAL (SELECT r ->> TG_ARGV[1], substr(r ->> TG_ARGV[2], length(TG_ARGV[3]) + 1)) AS changed (org_id, id)
  WHERE starts_with(r ->> TG_ARGV[2], TG_ARGV[3])
    AND NOT EXISTS (SELECT FROM public.cache_change c WHERE c.xid = pg_current_xact_id()
      AND c.org_id = changed.org_id AND c.what = TG_ARGV[0] AND c.id = changed.id)\x3B
  RETURN NULL\x3B
END';

CREATE TRIGGER note_cache_change AFTER INSERT OR UPDATE OR DELETE ON organization
  FOR EACH ROW EXECUTE FUNCTION note_cache_change('organization', 'id', 'id', '');
-- When a key was last used is written all the time and remembered by nobody.
CREATE TRIGGER note_cache_change AFTER INSERT OR DELETE
  OR UPDATE OF id, secret_hash, owner_id, rate_per_second, priority, allowed_ips, expires_at, revoked_at ON api_key
  FOR EACH ROW EXECUTE FUNCTION note_cache_change('key', 'org_id', 'id', '');
CREATE TRIGGER note_cache_change AFTER INSERT OR UPDATE OR DELETE ON "grant"
  FOR EACH ROW EXECUTE FUNCTION note_cache_change('key', 'org_id', 'subject', 'key:');
-- A sync that takes its lease, or finds nothing new, changes no name.
CREATE TRIGGER note_cache_change AFTER INSERT OR DELETE OR UPDATE OF name, live_commit, default_agent ON repository
  FOR EACH ROW EXECUTE FUNCTION note_cache_change('agents', 'org_id', 'id', '');
