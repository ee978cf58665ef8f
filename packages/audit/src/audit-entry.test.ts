import { expect, test } from "vitest";
import { AUDIT_COLUMNS, auditStatement, auditValues, type AuditEntry } from "./audit-entry.ts";

const entry: AuditEntry = {
  orgId: "org_1",
  actor: "key:key_1",
  action: "agent:execute",
  resource: "/agents/A/",
  result: "ok",
  durationMs: 12.6,
  details: { reason: "none" },
};

test("an audit statement has one value for each column it names, and names none that PostgreSQL gives", () => {
  const statement = auditStatement(entry);
  expect(auditValues(entry)).toHaveLength(AUDIT_COLUMNS.length);
  expect(statement.values).toHaveLength(AUDIT_COLUMNS.length);
  expect(statement.text).toContain(`$${AUDIT_COLUMNS.length})`);
  for (const given of ["id", "xid", "at"]) expect(AUDIT_COLUMNS).not.toContain(given);
});

test("what an entry does not say is null, milliseconds are whole, details are JSON", () => {
  const byColumn = Object.fromEntries(AUDIT_COLUMNS.map((column, index) => [column, auditValues(entry)[index]]));
  expect(byColumn).toMatchObject({ run_id: null, ip: null, duration_ms: 13, details: '{"reason":"none"}' });
});
