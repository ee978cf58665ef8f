export { AUDIT_COLUMNS, auditRecord, auditRow, auditStatement, auditValues, recordAudit } from "./audit-entry.ts";
export type { AuditEntry, AuditResult } from "./audit-entry.ts";
export { listAudit, listAuditInput } from "./list-audit.ts";
export type { AuditPage, AuditReader, AuditRow, ListAuditInput } from "./list-audit.ts";
export { sealAudit } from "./seal-audit.ts";
export type { SealAuditInput, SealAuditReport, SealedHead } from "./seal-audit.ts";
export { verifyAudit } from "./verify-audit.ts";
export type { AuditHead, AuditProblem, AuditProblemKind, AuditReport, VerifyAuditInput } from "./verify-audit.ts";
