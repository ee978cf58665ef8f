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
