import { recordAudit } from "@shaman/audit";
import type { Tx } from "@shaman/db";
import { err, invalidInput, newId, ok, userError, type Result, type Secret } from "@shaman/kernel";
import { z } from "zod";
import { apiKeyResource, auditOf, forbidden, type AccessDeps } from "./access-deps.ts";
import { apiKeyPrefix, hashApiKey, makeApiKey, type ApiKeyMode } from "./api-key-format.ts";
import type { ApiKeyRecord } from "./api-key-record.ts";
import { agentGrantResource, agentResource } from "./grants.ts";
import { isIpRange } from "./ip-allow-list.ts";
import type { Principal } from "./principal.ts";

const nameRule = "must be the name of an agent: 1 to 64 letters, digits, - or _";
const agentName = z.string(nameRule).regex(/^[A-Za-z0-9_-]{1,64}$/, nameRule);

export const createApiKeyInput = z.strictObject({
  name: z.string().trim().min(1, "must not be empty").max(100),
  mode: z.enum(["live", "test"]).default("live"),
  /** The agents it may execute, or `*` for every exposed agent, those of the future as well. */
  agents: z.union([z.literal("*"), z.array(agentName).min(1, "must name an agent, or be *").max(200)]),
  expiresAt: z.date().optional(),
  allowedIps: z
    .array(z.string().refine(isIpRange, "must be an IP address or a range such as 10.0.0.0/8"))
    .max(50)
    .default([]),
  /** Calls a second; absent for the organization's default, 0 for no limit. */
  ratePerSecond: z.int().min(0).max(100_000).optional(),
  /** 1 is served first, 5 last. */
  priority: z.int().min(1).max(5).optional(),
  /** USD a month (UTC) that all runs of the key may cost; absent for no limit of its own. */
  monthlySpendUsd: z.number().min(0).max(10_000_000).optional(),
  /** Whose tasks and idempotency the key shares, such as `user:user_…`; absent for an owner of its own. */
  ownerId: z
    .string()
    .regex(/^(?:user:user|key:key)_[0-9a-z]{26}$/, "must be user:user_… or key:key_…")
    .optional(),
});
export type CreateApiKeyInput = z.input<typeof createApiKeyInput>;

/** The whole key is here and nowhere else, ever. */
export type CreatedApiKey = { readonly key: Secret; readonly record: ApiKeyRecord };

const CREATE = "apiKey:create";

/**
 * Makes a key that may execute the given agents. Needs `apiKey:create`, the right to execute those agents oneself,
 * and `apiKey:assignOwner` for an owner other than oneself. Errors: `forbidden`, `invalid_input`.
 */
export const createApiKey = async (
  deps: AccessDeps,
  principal: Principal,
  input: CreateApiKeyInput,
): Promise<Result<CreatedApiKey>> => {
  if (!principal.can(CREATE, "/apiKeys/")) return err(forbidden(CREATE));
  const parsed = createApiKeyInput.safeParse(input);
  if (!parsed.success) return err(invalidInput(parsed.error));
  const { agents, ownerId, expiresAt } = parsed.data;
  if (!mayPassOn(principal, agents)) return err(forbidden("agent:execute"));
  if (ownerId !== undefined && ownerId !== principal.id && !principal.can("apiKey:assignOwner", "/apiKeys/")) {
    return err(forbidden("apiKey:assignOwner"));
  }
  const nowMs = deps.clock.now();
  if (expiresAt !== undefined && expiresAt.getTime() <= nowMs) {
    return err(userError("invalid_input", "The key would have expired already: give an expiry in the future."));
  }
  const { agents: _, ...rest } = parsed.data;
  const plan = planKey({ ...rest, ownerId, agents: agents === "*" ? ["*"] : agents, createdBy: principal.id, nowMs });
  await deps.db.withOrg(principal.orgId, async (tx) => {
    await insertKey(tx, principal.orgId, plan);
    const details = { name: plan.record.name, agents: plan.record.agents, prefix: plan.record.prefix };
    await recordAudit(
      tx,
      auditOf(deps, principal, { action: CREATE, resource: apiKeyResource(plan.record.id), details }),
    );
  });
  return ok(plan);
};

/** Nobody gives away a right to execute that is not theirs. */
const mayPassOn = (principal: Principal, agents: "*" | readonly string[]): boolean =>
  agents === "*"
    ? principal.can("agent:execute", "/agents/")
    : agents.every((agent) => principal.can("agent:execute", agentResource(agent)));

export type KeyPlan = {
  readonly name: string;
  readonly mode: ApiKeyMode;
  readonly agents: readonly string[];
  readonly expiresAt?: Date | undefined;
  readonly allowedIps: readonly string[];
  readonly ratePerSecond?: number | null | undefined;
  readonly priority?: number | null | undefined;
  readonly monthlySpendUsd?: number | null | undefined;
  readonly ownerId?: string | undefined;
  readonly createdBy: string;
  readonly nowMs: number;
};

/** Decides everything of a new key without writing it. */
export const planKey = (input: KeyPlan): CreatedApiKey => {
  const id = newId("key", input.nowMs);
  const parsed = { keyId: id, mode: input.mode };
  return {
    key: makeApiKey(parsed),
    record: {
      id,
      name: input.name,
      prefix: apiKeyPrefix(parsed),
      ownerId: input.ownerId ?? `key:${id}`,
      agents: [...new Set(input.agents)].toSorted(),
      allowedIps: input.allowedIps,
      ratePerSecond: input.ratePerSecond ?? null,
      priority: input.priority ?? null,
      monthlySpendUsd: input.monthlySpendUsd ?? null,
      createdBy: input.createdBy,
      createdAt: new Date(input.nowMs),
      expiresAt: input.expiresAt ?? null,
      revokedAt: null,
      replacedBy: null,
      lastUsedAt: null,
      state: "active",
    },
  };
};

export const insertKey = async (tx: Tx, orgId: string, { key, record }: CreatedApiKey): Promise<void> => {
  await tx.query({
    text: `INSERT INTO api_key (org_id, id, name, prefix, secret_hash, owner_id, rate_per_second, priority, allowed_ips,
        created_by, created_at, expires_at, monthly_spend_usd) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
    values: [
      orgId,
      record.id,
      record.name,
      record.prefix,
      hashApiKey(key.reveal()),
      record.ownerId,
      record.ratePerSecond,
      record.priority,
      record.allowedIps,
      record.createdBy,
      record.createdAt,
      record.expiresAt,
      record.monthlySpendUsd,
    ],
  });
  await insertGrants(tx, { orgId, subject: `key:${record.id}`, resources: record.agents.map(agentGrantResource) });
};

const insertGrants = (
  tx: Tx,
  input: { readonly orgId: string; readonly subject: string; readonly resources: readonly string[] },
): Promise<unknown> =>
  tx.query({
    text: `INSERT INTO "grant" (org_id, id, subject, action, resource)
      SELECT $1, id, $2, 'agent:execute', resource FROM unnest($3::text[], $4::text[]) AS g (id, resource)`,
    values: [input.orgId, input.subject, input.resources.map(() => newId("grant")), input.resources],
  });
