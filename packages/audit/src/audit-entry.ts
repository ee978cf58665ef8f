import { type JsonObject } from "@shaman/kernel";
import type { Statement, Tx } from "@shaman/db";

export type AuditResult = "ok" | "denied" | "failed";

/** One act. `actor` is a principal such as `key:key_…`, `user:user_…`, `operator:root` or `system:worker`. */
export type AuditEntry = {
  readonly orgId: string;
  readonly actor: string;
  /** Verb of the domain, such as `apiKey:create`, `agent:execute`, `tool:call`. */
  readonly action: string;
  /** What it was done to: a resource path (`/agents/Name/`) or an id. */
  readonly resource: string;
  readonly result: AuditResult;
  readonly agent?: string | undefined;
  readonly tool?: string | undefined;
  readonly runId?: string | undefined;
  readonly taskId?: string | undefined;
  readonly traceId?: string | undefined;
  readonly userId?: string | undefined;
  /** Which process did it: `public`, `internal`, `worker`, `web`, `cli`. */
  readonly server?: string | undefined;
  /** How it was asked for: `jsonrpc`, `http+json`, `graphql`, `cli`, … */
  readonly protocol?: string | undefined;
  readonly durationMs?: number | undefined;
  readonly ip?: string | undefined;
  readonly details?: JsonObject | undefined;
};

/** The columns a process writes, in the order of `auditValues`. Number, transaction and time are PostgreSQL's to give. */
export const AUDIT_COLUMNS = [
  "org_id",
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

/** The entry's values in the order of `AUDIT_COLUMNS`, for statements that insert the row along with others. */
export const auditValues = (entry: AuditEntry): readonly unknown[] => [
  entry.orgId,
  entry.actor,
  entry.action,
  entry.resource,
  entry.result,
  entry.agent ?? null,
  entry.tool ?? null,
  entry.runId ?? null,
  entry.taskId ?? null,
  entry.traceId ?? null,
  entry.userId ?? null,
  entry.server ?? null,
  entry.protocol ?? null,
  entry.durationMs === undefined ? null : Math.round(entry.durationMs),
  entry.ip ?? null,
  entry.details === undefined ? null : JSON.stringify(entry.details),
];

/** The entry as a JSON object of its columns, for statements that take many at once (`auditRecord`). */
export const auditRow = (entry: AuditEntry): Readonly<Record<string, unknown>> => ({
  org_id: entry.orgId,
  actor: entry.actor,
  action: entry.action,
  resource: entry.resource,
  result: entry.result,
  agent: entry.agent,
  tool: entry.tool,
  run_id: entry.runId,
  task_id: entry.taskId,
  trace_id: entry.traceId,
  user_id: entry.userId,
  server: entry.server,
  protocol: entry.protocol,
  duration_ms: entry.durationMs === undefined ? undefined : Math.round(entry.durationMs),
  ip: entry.ip,
  details: entry.details,
});

const RECORD_COLUMNS = AUDIT_COLUMNS.map(
  (column) => `${column} ${column === "duration_ms" ? "integer" : column === "details" ? "jsonb" : "text"}`,
).join(", ");

/** A piece of SQL: the rows `a` of what `auditRow` gave, one object or an array of them, in the jsonb expression. */
export const auditRecord = (jsonb: string, shape: "one" | "many" = "one"): string =>
  `jsonb_to_record${shape === "many" ? "set" : ""}(${jsonb}) AS a (${RECORD_COLUMNS})`;

const INSERT =
  `INSERT INTO audit_log (${AUDIT_COLUMNS.join(", ")}) ` +
  `VALUES (${AUDIT_COLUMNS.map((_, index) => `$${index + 1}`).join(", ")})`;

/** The prepared statement that writes the row; run it in the transaction of the act it tells of. */
export const auditStatement = (entry: AuditEntry): Statement => ({
  name: "audit_insert",
  text: INSERT,
  values: auditValues(entry),
});

/** Writes the row inside the act's own transaction, so that neither exists without the other. */
export const recordAudit = async (tx: Tx, entry: AuditEntry): Promise<void> => {
  await tx.query(auditStatement(entry));
};
