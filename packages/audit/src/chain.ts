import { createHash } from "node:crypto";

/**
 * What the seal covers: every column of the row as PostgreSQL prints it, so that sealer and verifier hash the same
 * text whatever the driver makes of the types. The order is part of the format of the chain.
 */
export const SEALED_COLUMNS = [
  "org_id",
  "id",
  "xid",
  "at",
  "actor",
  "action",
  "resource",
  "result",
  "agent",
  "tool",
  "run_id",
  "task_id",
  "trace_id",
  "user_id",
  "server",
  "protocol",
  "duration_ms",
  "ip",
  "details",
] as const;

export type SealedRow = readonly (string | null)[];

/** One SQL expression that gives the row as a JSON array of texts, in the order of `SEALED_COLUMNS`. */
export const sealedRowSql = (alias: string): string => {
  const texts = SEALED_COLUMNS.map((column) =>
    column === "at"
      ? `to_char(${alias}.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`
      : `${alias}.${column}::text`,
  );
  return `json_build_array(${texts.join(", ")})`;
};

/** What the first row of an organization is chained to. */
export const CHAIN_START: Buffer = Buffer.alloc(32);

/** The next link: SHA-256 over the link before and the row. JSON keeps null, empty and neighbouring texts apart. */
export const chainHash = (previous: Uint8Array, row: SealedRow): Buffer =>
  createHash("sha256").update(previous).update(JSON.stringify(row)).digest();
