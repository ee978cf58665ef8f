import { agentOfGrantResource } from "./grants.ts";

export type ApiKeyState = "active" | "expired" | "revoked";

/** A key as lists show it; its secret is nowhere. */
export type ApiKeyRecord = {
  readonly id: string;
  readonly name: string;
  /** Begins the key, so that one can tell which is which. */
  readonly prefix: string;
  readonly ownerId: string;
  /** Names of the agents it may execute; `*` stands for all. */
  readonly agents: readonly string[];
  readonly allowedIps: readonly string[];
  /** Null: the default. 0: no limit. */
  readonly ratePerSecond: number | null;
  readonly priority: number | null;
  /** USD a month that its runs may cost; null: no limit of its own. */
  readonly monthlySpendUsd: number | null;
  readonly createdBy: string;
  readonly createdAt: Date;
  readonly expiresAt: Date | null;
  readonly revokedAt: Date | null;
  /** The key that a rotation made in its place. */
  readonly replacedBy: string | null;
  readonly lastUsedAt: Date | null;
  readonly state: ApiKeyState;
};

export type ApiKeyRow = Omit<ApiKeyRecord, "agents" | "state"> & { readonly resources: readonly string[] };

export const API_KEY_COLUMNS = `k.id, k.name, k.prefix, k.owner_id AS "ownerId", k.allowed_ips AS "allowedIps",
  k.rate_per_second AS "ratePerSecond", k.priority, k.monthly_spend_usd::float8 AS "monthlySpendUsd", k.created_by AS "createdBy", k.created_at AS "createdAt",
  k.expires_at AS "expiresAt", k.revoked_at AS "revokedAt", k.replaced_by AS "replacedBy",
  k.last_used_at AS "lastUsedAt",
  ARRAY(SELECT g.resource FROM "grant" g WHERE g.org_id = k.org_id AND g.subject = 'key:' || k.id
    AND g.action = 'agent:execute' ORDER BY g.resource) AS resources`;

export const toApiKeyRecord = (row: ApiKeyRow, nowMs: number): ApiKeyRecord => {
  const { resources, ...rest } = row;
  return { ...rest, agents: resources.flatMap((each) => agentOfGrantResource(each) ?? []), state: stateOf(row, nowMs) };
};

const stateOf = (row: ApiKeyRow, nowMs: number): ApiKeyState => {
  if (row.revokedAt !== null) return "revoked";
  return row.expiresAt !== null && row.expiresAt.getTime() <= nowMs ? "expired" : "active";
};
