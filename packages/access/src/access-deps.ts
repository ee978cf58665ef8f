import type { AuditEntry } from "@shaman/audit";
import type { Db } from "@shaman/db";
import { userError, type AppError, type Clock } from "@shaman/kernel";
import { resourceSegment } from "./grants.ts";
import type { Principal } from "./principal.ts";

/** Where a request came from, for the audit row. */
export type Origin = {
  readonly server: string;
  readonly protocol?: string;
  readonly ip?: string;
  readonly traceId?: string;
};

export type KeyChange = { readonly orgId: string; readonly keyId: string };

export type AccessDeps = {
  readonly db: Db;
  readonly clock: Clock;
  readonly origin: Origin;
  /** Tells every process after the commit, so that caches forget the key at once. Without it they do within seconds. */
  readonly announceKeyChange?: (change: KeyChange) => Promise<void>;
};

/** The audit row of something this principal did. */
export const auditOf = (
  deps: { readonly origin: Origin },
  principal: Principal,
  act: Pick<AuditEntry, "action" | "resource" | "details"> & { readonly result?: AuditEntry["result"] },
): AuditEntry => ({
  orgId: principal.orgId,
  actor: principal.id,
  userId: principal.userId,
  result: "ok",
  ...deps.origin,
  ...act,
});

/** The answer to somebody who may not: it names the permission to ask for, and nothing that exists. */
export const forbidden = (action: string): AppError =>
  userError("forbidden", `You may not do this. Ask an administrator for the permission ${action}.`);

export const apiKeyResource = (keyId: string): string => `/apiKeys/${resourceSegment(keyId)}/`;
