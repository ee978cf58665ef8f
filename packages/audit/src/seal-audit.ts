import type { Db, Tx } from "@shaman/db";
import { CHAIN_START, chainHash, sealedRowSql, type SealedRow } from "./chain.ts";

export type SealAuditInput = {
  /** Rows a transaction seals at most. */
  readonly batchRows?: number;
  /** Stops between batches. */
  readonly signal?: AbortSignal;
};

export type SealedHead = {
  readonly orgId: string;
  readonly position: number;
  /** Hex. Kept outside the database (a log line is enough) it proves later that the chain was not cut short. */
  readonly hash: string;
};

export type SealAuditReport = { readonly rows: number; readonly heads: readonly SealedHead[] };

const DEFAULT_BATCH_ROWS = 1_000;

/**
 * Chains every audit row that can no longer be overtaken: rows of transactions below the snapshot horizon, in the
 * order (xid, id). Safe to run in several workers at once: a lock per organization lets one of them through, the
 * others skip it. Run it as the worker's role, at least every 10 seconds.
 */
export const sealAudit = async (deps: { readonly db: Db }, input: SealAuditInput = {}): Promise<SealAuditReport> => {
  const batchRows = input.batchRows ?? DEFAULT_BATCH_ROWS;
  const heads: SealedHead[] = [];
  let rows = 0;
  for (const orgId of await findUnsealedOrganizations(deps)) {
    for (;;) {
      if (input.signal?.aborted === true) return { rows, heads };
      const batch = await deps.db.withOrg(orgId, (tx) => sealBatch(tx, { orgId, batchRows }));
      rows += batch.sealed;
      if (batch.head !== undefined) heads.push({ orgId, ...batch.head });
      if (batch.sealed < batchRows) break;
    }
  }
  return { rows, heads };
};

/**
 * A seal whose transaction number this database has not reached yet came with a restored dump: numbers start again
 * in a new cluster, row ids do not, so the ids tell old and new apart until the first new row is sealed.
 */
const RESTORED = "xid >= pg_snapshot_xmax(pg_current_snapshot())";

const findUnsealedOrganizations = async (deps: { readonly db: Db }): Promise<readonly string[]> =>
  deps.db.unscoped(async (tx) => {
    const { rows } = await tx.query<{ id: string }>({
      name: "audit_unsealed",
      text: `SELECT o.id FROM organization o
        LEFT JOIN LATERAL (SELECT xid, audit_id FROM audit_seal s WHERE s.org_id = o.id
          ORDER BY position DESC LIMIT 1) s ON true
        WHERE s.${RESTORED} OR EXISTS (SELECT FROM audit_log a WHERE a.org_id = o.id
          AND a.xid < pg_snapshot_xmin(pg_current_snapshot())
          AND (a.xid, a.id) > (coalesce(s.xid, '0'::xid8), coalesce(s.audit_id, 0)))`,
    });
    return rows.map((row) => row.id);
  });

type Batch = { readonly sealed: number; readonly head?: { readonly position: number; readonly hash: string } };

type Last = { position: number; audit_id: number; xid: string; hash: Buffer; restored: boolean };

type Unsealed = { id: number; xid: string; row: SealedRow };

const sealBatch = async (tx: Tx, input: { orgId: string; batchRows: number }): Promise<Batch> => {
  const lock = await tx.query<{ mine: boolean }>({
    name: "audit_seal_lock",
    text: "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0)) AS mine",
    values: [`audit_seal ${input.orgId}`],
  });
  if (lock.rows[0]?.mine !== true) return { sealed: 0 };
  // The lock came first, so this statement's snapshot sees whatever its last holder committed.
  const lasts = await tx.query<Last>({
    name: "audit_seal_last",
    text: `SELECT position, audit_id, xid::text AS xid, hash, ${RESTORED} AS restored FROM audit_seal
      WHERE org_id = $1 ORDER BY position DESC LIMIT 1`,
    values: [input.orgId],
  });
  const last = lasts.rows[0];
  const rows = await findUnsealedRows(tx, { ...input, last });
  if (rows.length === 0) return { sealed: 0 };

  let hash: Buffer = last?.hash ?? CHAIN_START;
  const hashes = rows.map(({ row }) => {
    hash = chainHash(hash, row);
    return hash.toString("hex");
  });
  const start = last?.position ?? 0;
  await tx.query({
    name: "audit_seal_insert",
    text: `INSERT INTO audit_seal (org_id, position, audit_id, xid, hash)
      SELECT $1, $2 + n, id::bigint, xid::xid8, decode(hash, 'hex')
      FROM unnest(string_to_array($3, ','), string_to_array($4, ','), string_to_array($5, ','))
      WITH ORDINALITY AS sealed (id, xid, hash, n)`,
    // As texts: the driver writes arrays element by element, and this runs for every call.
    values: [input.orgId, start, listOf(rows.map(({ id }) => id)), listOf(rows.map(({ xid }) => xid)), listOf(hashes)],
  });
  return { sealed: rows.length, head: { position: start + rows.length, hash: hash.toString("hex") } };
};

const listOf = (values: readonly (string | number)[]): string => values.join(",");

const findUnsealedRows = async (
  tx: Tx,
  input: { orgId: string; batchRows: number; last: Last | undefined },
): Promise<readonly Unsealed[]> => {
  const columns = `SELECT a.id, a.xid::text AS xid, ${sealedRowSql("a")} AS row FROM audit_log a
    WHERE a.org_id = $1 AND a.xid < pg_snapshot_xmin(pg_current_snapshot())`;
  const order = "ORDER BY a.xid, a.id LIMIT $2";
  if (input.last?.restored === true) {
    const { rows } = await tx.query<Unsealed>({
      name: "audit_seal_rows_restored",
      text: `${columns} AND a.id > (SELECT max(audit_id) FROM audit_seal WHERE org_id = $1) ${order}`,
      values: [input.orgId, input.batchRows],
    });
    return rows;
  }
  const { rows } = await tx.query<Unsealed>({
    name: "audit_seal_rows",
    text: `${columns} AND (a.xid, a.id) > ($3::xid8, $4::bigint) ${order}`,
    values: [input.orgId, input.batchRows, input.last?.xid ?? "0", input.last?.audit_id ?? 0],
  });
  return rows;
};
