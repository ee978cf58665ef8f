import type { Db } from "@shaman/db";
import { err, invalidInput, ok, userError, type JsonObject, type Result } from "@shaman/kernel";
import { z } from "zod";
import type { AuditResult } from "./audit-entry.ts";

/** Who reads: any principal that can answer for its permissions. */
export type AuditReader = {
  readonly orgId: string;
  readonly can: (action: string, resource: string) => boolean;
};

export const listAuditInput = z.strictObject({
  actor: z.string().max(256).optional(),
  action: z.string().max(256).optional(),
  /** Also finds what lies below this path. */
  resource: z.string().max(512).optional(),
  runId: z.string().max(64).optional(),
  from: z.date().optional(),
  /** Exclusive. */
  until: z.date().optional(),
  first: z.int().min(1).max(200).default(50),
  /** Cursor of the last row seen. */
  after: z.string().max(200).optional(),
});
export type ListAuditInput = z.input<typeof listAuditInput>;

export type AuditRow = {
  readonly id: number;
  readonly at: Date;
  readonly actor: string;
  readonly action: string;
  readonly resource: string;
  readonly result: AuditResult;
  readonly agent: string | null;
  readonly tool: string | null;
  readonly runId: string | null;
  readonly taskId: string | null;
  readonly traceId: string | null;
  readonly userId: string | null;
  readonly server: string | null;
  readonly protocol: string | null;
  readonly durationMs: number | null;
  readonly ip: string | null;
  readonly details: JsonObject | null;
  /** Give it as `after` to go on behind this row. */
  readonly cursor: string;
};

export type AuditPage = { readonly rows: readonly AuditRow[]; readonly endCursor: string | null };

/** The newest rows first, a page at a time. Needs `audit:read`. */
export const listAudit = async (
  deps: { readonly db: Db },
  principal: AuditReader,
  input: ListAuditInput,
): Promise<Result<AuditPage>> => {
  if (!principal.can("audit:read", "/audit/")) {
    return err(userError("forbidden", "You may not read the audit log. Ask for the permission audit:read."));
  }
  const parsed = listAuditInput.safeParse(input);
  if (!parsed.success) return err(invalidInput(parsed.error));
  const cursor = parsed.data.after === undefined ? undefined : decodeCursor(parsed.data.after);
  if (cursor === null) return err(userError("invalid_cursor", "The cursor is not one of this list. Start without it."));
  const page = await readPage(deps.db, principal.orgId, { ...parsed.data, cursor });
  return ok(page);
};

type Cursor = { readonly at: string; readonly id: number };

/** Microseconds matter: many rows share a millisecond. */
const encodeCursor = (cursor: Cursor): string => Buffer.from(`${cursor.at} ${cursor.id}`).toString("base64url");

const decodeCursor = (text: string): Cursor | null => {
  const match = /^(\d{4,6}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) (\d{1,15})$/.exec(
    Buffer.from(text, "base64url").toString(),
  );
  return match?.[1] === undefined ? null : { at: match[1], id: Number(match[2]) };
};

type Columns = Omit<AuditRow, "cursor"> & { readonly cursorAt: string };

const COLUMNS = `id, at, actor, action, resource, result, agent, tool, run_id AS "runId", task_id AS "taskId",
  trace_id AS "traceId", user_id AS "userId", server, protocol, duration_ms AS "durationMs", ip, details,
  to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS "cursorAt"`;

const readPage = async (
  db: Db,
  orgId: string,
  input: z.output<typeof listAuditInput> & { readonly cursor: Cursor | undefined },
): Promise<AuditPage> => {
  const values: unknown[] = [orgId];
  const conditions = ["org_id = $1"];
  const where = (condition: (placeholder: string) => string, value: unknown): void => {
    if (value === undefined) return;
    values.push(value);
    conditions.push(condition(`$${values.length}`));
  };
  where((value) => `actor = ${value}`, input.actor);
  where((value) => `action = ${value}`, input.action);
  where((value) => `starts_with(resource, ${value})`, input.resource);
  where((value) => `run_id = ${value}`, input.runId);
  where((value) => `at >= ${value}`, input.from);
  where((value) => `at < ${value}`, input.until);
  if (input.cursor !== undefined) {
    values.push(input.cursor.at, input.cursor.id);
    conditions.push(`(at, id) < ($${values.length - 1}::timestamptz, $${values.length}::bigint)`);
  }
  const text = `SELECT ${COLUMNS} FROM audit_log WHERE ${conditions.join(" AND ")}
    ORDER BY at DESC, id DESC LIMIT ${input.first + 1}`;
  const { rows } = await db.withOrg(orgId, (tx) => tx.query<Columns>({ text, values }));
  const page = rows.slice(0, input.first).map(({ cursorAt, ...row }) => {
    return { ...row, cursor: encodeCursor({ at: cursorAt, id: row.id }) };
  });
  return { rows: page, endCursor: rows.length > page.length ? (page.at(-1)?.cursor ?? null) : null };
};
