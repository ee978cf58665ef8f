import { recordAudit, type AuditEntry } from "@shaman/audit";
import { toJsonb, type Db, type Tx } from "@shaman/db";
import { AppError, newId } from "@shaman/kernel";

import type { Problem } from "../definition/problem.ts";
import { AGENTS_JSON, type Alias } from "../repository/parse-agents-json.ts";
import type { RepositoryContent } from "../repository/read-agents.ts";
import type { SnapshotManifest } from "./snapshot-manifest.ts";
import { planVersion, type PlannedVersion } from "./stored-definition.ts";
import { RELEASE, releaseValues, type HeldRepository } from "./sync-lease.ts";

export type StoreInput = {
  readonly held: HeldRepository;
  readonly commit: string;
  readonly content: RepositoryContent;
  /** Kept with the repository, for whoever asks how the sync went. */
  readonly warnings: readonly Problem[];
  readonly audit: AuditEntry;
};

export type Changes = {
  readonly agents: number;
  readonly added: number;
  readonly changed: number;
  readonly removed: number;
};

type AgentRow = {
  readonly id: string;
  readonly path: string;
  readonly name: string;
  readonly description: string;
  readonly exposed: boolean;
  readonly model: string | null;
  readonly tags: readonly string[];
  readonly version_id: string;
  readonly live: boolean;
};

const BLOB_CHARS_A_STATEMENT = 8 * 1024 * 1024;
const SNAPSHOT_DAYS = 30;
const SNAPSHOTS_A_SYNC = 50;

/** Names that callers outside may use: exposed agents, and aliases that lead to them. */
const publicNames = (content: RepositoryContent): ReadonlyMap<string, string> => {
  const exposed = content.agents.filter(({ definition }) => definition.exposed);
  const paths = new Set(exposed.map(({ definition }) => definition.path));
  const aliases = content.aliases.filter(({ target }) => target.kind === "agent" && paths.has(target.path));
  return new Map([
    ...aliases.map(({ name }) => [name, AGENTS_JSON] as const),
    ...exposed.map(({ definition }) => [definition.name, definition.file] as const),
  ]);
};

const CLASHES = `
SELECT g.name, r.name AS repository, v.definition ->> 'file' AS file
FROM agent g
JOIN repository r ON r.org_id = g.org_id AND r.id = g.repository_id
JOIN agent_version v ON v.org_id = g.org_id AND v.id = g.version_id
WHERE g.org_id = $1 AND g.repository_id <> $2 AND g.live AND g.exposed AND g.name = ANY ($3)
UNION ALL
SELECT a.name, r.name, '${AGENTS_JSON}'
FROM alias a
JOIN repository r ON r.org_id = a.org_id AND r.id = a.repository_id
JOIN agent g ON g.org_id = a.org_id AND g.repository_id = a.repository_id AND g.path = a.target
WHERE a.org_id = $1 AND a.repository_id <> $2 AND g.live AND g.exposed AND a.name = ANY ($3)
ORDER BY 1`;

/** A public name belongs to one repository of an organization: the one that had it first. */
const findClashes = async (tx: Tx, input: StoreInput): Promise<readonly Problem[]> => {
  const names = publicNames(input.content);
  const { rows } = await tx.query<{ name: string; repository: string; file: string }>({
    text: CLASHES,
    values: [input.held.orgId, input.held.repositoryId, [...names.keys()]],
  });
  return rows.map(({ name, repository, file }) => ({
    file: names.get(name) ?? AGENTS_JSON,
    line: 1,
    message: `the name ${name} is already exposed by the repository ${repository} (${file}): rename one, or make it private`,
  }));
};

const insertBlobs = async (tx: Tx, orgId: string, blobs: ReadonlyMap<string, string>): Promise<void> => {
  const { rows } = await tx.query<{ hash: string }>({
    text: "SELECT hash FROM blob WHERE org_id = $1 AND hash = ANY ($2)",
    values: [orgId, [...blobs.keys()]],
  });
  const known = new Set(rows.map(({ hash }) => hash));
  const missing = [...blobs].filter(([hash]) => !known.has(hash));
  for (let at = 0; at < missing.length;) {
    const batch: (readonly [string, string])[] = [];
    for (let chars = 0; at < missing.length && chars < BLOB_CHARS_A_STATEMENT; at += 1) {
      const blob = missing[at];
      if (blob === undefined) break;
      batch.push(blob);
      chars += blob[1].length;
    }
    await tx.query({
      text: `INSERT INTO blob (org_id, hash, content) SELECT $1, * FROM unnest($2::text[], $3::text[]) ON CONFLICT DO NOTHING`,
      values: [orgId, batch.map(([hash]) => hash), batch.map(([, content]) => content)],
    });
  }
};

const UPSERT_AGENTS = `
INSERT INTO agent (org_id, repository_id, id, path, name, description, exposed, model, tags, version_id, live)
SELECT $1, $2, id, path, name, description, exposed, model, tags, version_id, true
FROM jsonb_to_recordset($3) AS a (id text, path text, name text, description text, exposed boolean, model text, tags text[],
  version_id text)
ON CONFLICT (org_id, repository_id, path) DO UPDATE SET name = excluded.name, description = excluded.description,
  exposed = excluded.exposed, model = excluded.model, tags = excluded.tags, version_id = excluded.version_id, live = true,
  updated_at = now()`;

const INSERT_VERSIONS = `
INSERT INTO agent_version (org_id, id, agent_id, first_commit, content_hash, definition)
SELECT $1, id, agent_id, $2, content_hash, definition
FROM jsonb_to_recordset($3) AS v (id text, agent_id text, content_hash text, definition jsonb)
ON CONFLICT DO NOTHING`;

type PlannedAgent = { readonly row: AgentRow; readonly version: PlannedVersion };

/** The rows that the agents of this commit have; known agents keep their ids, and versions are named by what is in them. */
const planAgents = (
  input: StoreInput,
  current: ReadonlyMap<string, AgentRow>,
  earlier: SnapshotManifest | undefined,
): readonly PlannedAgent[] => {
  const hashes = new Map<string, string>();
  return input.content.agents.map((agent) => {
    const { path, name, description, exposed, model, tags } = agent.definition;
    const version = planVersion(agent, hashes);
    const id = current.get(path)?.id ?? newId("agent");
    // A commit seen before keeps the versions it was given then: runs may be pinned to it.
    const versionId = earlier?.agents[path] ?? `${id}.${version.contentHash.slice(0, 32)}`;
    const row = { id, path, name, description, exposed, model: model ?? null, tags, version_id: versionId, live: true };
    return { row, version };
  });
};

const isSame = (a: AgentRow, b: AgentRow): boolean =>
  a.version_id === b.version_id && a.live === b.live && a.exposed === b.exposed;

/** Writes agents and versions; rows that are as they were are not touched. */
const writeAgents = async (
  tx: Tx,
  input: StoreInput,
  earlier: SnapshotManifest | undefined,
): Promise<{ readonly manifest: SnapshotManifest; readonly changes: Changes }> => {
  const { orgId, repositoryId } = input.held;
  const { rows } = await tx.query<AgentRow>({
    text: `SELECT id, path, name, description, exposed, model, tags, version_id, live FROM agent
      WHERE org_id = $1 AND repository_id = $2`,
    values: [orgId, repositoryId],
  });
  const current = new Map(rows.map((row) => [row.path, row]));
  const planned = planAgents(input, current, earlier);
  const changed = planned.filter(({ row }) => {
    const before = current.get(row.path);
    return before === undefined || !isSame(before, row);
  });
  await insertBlobs(tx, orgId, new Map(changed.flatMap(({ version }) => [...version.blobs])));
  // Before the others, because an agent that moves keeps its name.
  const removed = await tx.query({
    text: `UPDATE agent SET live = false, updated_at = now()
      WHERE org_id = $1 AND repository_id = $2 AND live AND NOT path = ANY ($3)`,
    values: [orgId, repositoryId, planned.map(({ row }) => row.path)],
  });
  if (changed.length > 0) {
    await tx.query({ text: UPSERT_AGENTS, values: [orgId, repositoryId, toJsonb(changed.map(({ row }) => row))] });
    const versions = changed.map(({ row, version }) => ({
      id: row.version_id,
      agent_id: row.id,
      content_hash: version.contentHash,
      definition: version.stored,
    }));
    await tx.query({ text: INSERT_VERSIONS, values: [orgId, input.commit, toJsonb(versions)] });
  }
  const added = changed.filter(({ row }) => current.get(row.path)?.live !== true).length;
  return {
    manifest: {
      agents: Object.fromEntries(planned.map(({ row }) => [row.path, row.version_id])),
      aliases: input.content.aliases,
    },
    changes: { agents: planned.length, added, changed: changed.length - added, removed: removed.rowCount },
  };
};

const targetOf = (alias: Alias): string => (alias.target.kind === "agent" ? alias.target.path : alias.target.url);

const writeAliases = async (tx: Tx, input: StoreInput): Promise<void> => {
  const { orgId, repositoryId } = input.held;
  const { aliases } = input.content;
  await tx.query({
    text: "DELETE FROM alias WHERE org_id = $1 AND repository_id = $2",
    values: [orgId, repositoryId],
  });
  if (aliases.length === 0) return;
  await tx.query({
    text: `INSERT INTO alias (org_id, repository_id, name, target) SELECT $1, $2, * FROM unnest($3::text[], $4::text[])`,
    values: [orgId, repositoryId, aliases.map(({ name }) => name), aliases.map(targetOf)],
  });
};

/** Snapshots that nothing needs any more: old, not live, and no unfinished run is pinned to them. */
const CLEAN_UP = `
DELETE FROM snapshot WHERE org_id = $1 AND repository_id = $2 AND commit IN (
  SELECT s.commit FROM snapshot s
  WHERE s.org_id = $1 AND s.repository_id = $2 AND s.created_at < now() - make_interval(days => ${SNAPSHOT_DAYS})
    AND s.commit <> $3
    AND NOT EXISTS (SELECT 1 FROM run WHERE run.org_id = $1 AND run.finished_at IS NULL
      AND run.repository_id = s.repository_id AND run.commit = s.commit)
    AND NOT EXISTS (SELECT 1 FROM run JOIN run_pin p ON p.org_id = run.org_id AND p.run_id = run.id
      WHERE run.org_id = $1 AND run.finished_at IS NULL AND p.repository_id = s.repository_id AND p.commit = s.commit)
  LIMIT ${SNAPSHOTS_A_SYNC})`;

const switchTo = async (tx: Tx, input: StoreInput, manifest: SnapshotManifest): Promise<void> => {
  const { held, commit } = input;
  const { orgId, repositoryId } = held;
  await tx.query({
    text: `INSERT INTO snapshot (org_id, repository_id, commit, manifest) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
    values: [orgId, repositoryId, commit, toJsonb(manifest)],
  });
  await writeAliases(tx, input);
  await tx.query({
    text: "UPDATE repository SET live_commit = $3, default_agent = $4 WHERE org_id = $1 AND id = $2",
    values: [orgId, repositoryId, commit, input.content.defaultAgent ?? null],
  });
  const end = {
    state: "ok",
    seenCommit: commit,
    problems: input.warnings,
    error: null,
    retrySeconds: null,
  } as const;
  await tx.query({ text: RELEASE, values: releaseValues(held, end) });
  await tx.query({ text: CLEAN_UP, values: [orgId, repositoryId, commit] });
};

const superseded = (): AppError =>
  new AppError({
    code: "sync_superseded",
    kind: "operational",
    message: "Another sync took over while this one ran long",
  });

/**
 * Stores everything of a commit and makes it live, in one transaction with its audit row: before it, new runs get the
 * old commit whole, after it the new one whole. Gives problems instead, and writes nothing, when another repository has
 * a name already. Throws `sync_superseded` when the lease was lost.
 */
export const storeCommit = (
  db: Db,
  input: StoreInput,
): Promise<{ readonly changes: Changes } | { readonly problems: readonly Problem[] }> =>
  db.withOrg(input.held.orgId, async (tx) => {
    const { orgId, repositoryId, token } = input.held;
    // One switch at a time an organization: whether a name is free could not be known otherwise.
    await tx.query({ text: "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", values: [`agents:${orgId}`] });
    const lease = await tx.query({
      text: "SELECT 1 FROM repository WHERE org_id = $1 AND id = $2 AND sync_token = $3 FOR UPDATE",
      values: [orgId, repositoryId, token],
    });
    if (lease.rowCount === 0) throw superseded();
    const problems = await findClashes(tx, input);
    if (problems.length > 0) return { problems };
    const earlier = await tx.query<{ manifest: SnapshotManifest }>({
      text: "SELECT manifest FROM snapshot WHERE org_id = $1 AND repository_id = $2 AND commit = $3",
      values: [orgId, repositoryId, input.commit],
    });
    const { manifest, changes } = await writeAgents(tx, input, earlier.rows[0]?.manifest);
    await switchTo(tx, input, manifest);
    await recordAudit(tx, input.audit);
    return { changes };
  });
