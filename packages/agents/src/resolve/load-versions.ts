import type { Db } from "@shaman/db";

import type { AgentDefinition } from "../definition/agent-definition.ts";
import type { SnapshotManifest } from "../sync/snapshot-manifest.ts";
import { blobsOf, restoreDefinition, type StoredDefinition } from "../sync/stored-definition.ts";

export type LoadedVersion = { readonly agentId: string; readonly definition: AgentDefinition };

/** Loads definitions with their texts, by version. Versions that do not exist are left out. */
export const loadVersions = async (
  db: Db,
  orgId: string,
  versionIds: readonly string[],
): Promise<ReadonlyMap<string, LoadedVersion>> =>
  db.withOrg(orgId, async (tx) => {
    const { rows } = await tx.query<{ id: string; agentId: string; definition: StoredDefinition }>({
      name: "agent_versions",
      text: `SELECT id, agent_id AS "agentId", definition FROM agent_version WHERE org_id = $1 AND id = ANY ($2)`,
      values: [orgId, versionIds],
    });
    const hashes = [...new Set(rows.flatMap(({ definition }) => blobsOf(definition)))];
    if (rows.length === 0) return new Map();
    const blobs = await tx.query<{ hash: string; content: string }>({
      name: "agent_blobs",
      text: "SELECT hash, content FROM blob WHERE org_id = $1 AND hash = ANY ($2)",
      values: [orgId, hashes],
    });
    const texts = new Map(blobs.rows.map(({ hash, content }) => [hash, content]));
    return new Map(
      rows.map(({ id, agentId, definition }) => [id, { agentId, definition: restoreDefinition(definition, texts) }]),
    );
  });

/** What a repository said at a commit; undefined when that commit was never live, or is long forgotten. */
export const loadManifest = async (
  db: Db,
  at: { readonly orgId: string; readonly repositoryId: string; readonly commit: string },
): Promise<SnapshotManifest | undefined> => {
  const { rows } = await db.withOrg(at.orgId, (tx) =>
    tx.query<{ manifest: SnapshotManifest }>({
      name: "agent_snapshot",
      text: "SELECT manifest FROM snapshot WHERE org_id = $1 AND repository_id = $2 AND commit = $3",
      values: [at.orgId, at.repositoryId, at.commit],
    }),
  );
  return rows[0]?.manifest;
};
