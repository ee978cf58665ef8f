import { recordAudit } from "@shaman/audit";
import type { Tx } from "@shaman/db";
import { err, invalidInput, ok, userError, type Result } from "@shaman/kernel";
import { z } from "zod";
import { apiKeyResource, auditOf, forbidden, type AccessDeps } from "./access-deps.ts";
import { API_KEY_COLUMNS, toApiKeyRecord, type ApiKeyRecord, type ApiKeyRow } from "./api-key-record.ts";
import { insertKey, planKey, type CreatedApiKey } from "./create-api-key.ts";
import type { Principal } from "./principal.ts";

export const rotateApiKeyInput = z.strictObject({
  keyId: z.string().max(64),
  /** Until then the old key works beside the new one; absent: it stops now. */
  oldKeyWorksUntil: z.date().optional(),
  /** Expiry of the new key. */
  expiresAt: z.date().optional(),
});
export type RotateApiKeyInput = z.input<typeof rotateApiKeyInput>;

const ROTATE = "apiKey:rotate";

/**
 * Puts a new key in place of one: same owner, name, agents, addresses and limits, another secret. The old one goes on
 * until the given time. Needs `apiKey:rotate`. Errors: `forbidden`, `invalid_input`, `api_key_not_found`,
 * `api_key_not_active` (revoked, expired or rotated before).
 */
export const rotateApiKey = async (
  deps: AccessDeps,
  principal: Principal,
  input: RotateApiKeyInput,
): Promise<Result<CreatedApiKey>> => {
  if (!principal.can(ROTATE, apiKeyResource(input.keyId))) return err(forbidden(ROTATE));
  const parsed = rotateApiKeyInput.safeParse(input);
  if (!parsed.success) return err(invalidInput(parsed.error));
  const nowMs = deps.clock.now();
  for (const time of [parsed.data.oldKeyWorksUntil, parsed.data.expiresAt]) {
    if (time !== undefined && time.getTime() <= nowMs) {
      return err(userError("invalid_input", "The given time is over already: give one in the future."));
    }
  }
  const rotated = await deps.db.withOrg(principal.orgId, async (tx): Promise<Result<CreatedApiKey>> => {
    const old = await lockKey(tx, { orgId: principal.orgId, keyId: input.keyId, nowMs });
    if (!old.ok) return old;
    const created = planKey({
      ...old.value,
      mode: old.value.prefix.startsWith("sk_test_") ? "test" : "live",
      expiresAt: parsed.data.expiresAt,
      createdBy: principal.id,
      nowMs,
    });
    await insertKey(tx, principal.orgId, created);
    const worksUntil = earliest(old.value.expiresAt, parsed.data.oldKeyWorksUntil ?? new Date(nowMs));
    await tx.query({
      text: "UPDATE api_key SET expires_at = $3, replaced_by = $4 WHERE org_id = $1 AND id = $2",
      values: [principal.orgId, old.value.id, worksUntil, created.record.id],
    });
    const details = { replacedBy: created.record.id, worksUntil: worksUntil.toISOString() };
    await recordAudit(
      tx,
      auditOf(deps, principal, { action: ROTATE, resource: apiKeyResource(old.value.id), details }),
    );
    return ok(created);
  });
  if (rotated.ok) await deps.announceKeyChange?.({ orgId: principal.orgId, keyId: input.keyId });
  return rotated;
};

const earliest = (a: Date | null, b: Date): Date => (a !== null && a.getTime() < b.getTime() ? a : b);

const lockKey = async (
  tx: Tx,
  input: { readonly orgId: string; readonly keyId: string; readonly nowMs: number },
): Promise<Result<ApiKeyRecord>> => {
  const { rows } = await tx.query<ApiKeyRow>({
    text: `SELECT ${API_KEY_COLUMNS} FROM api_key k WHERE k.org_id = $1 AND k.id = $2 FOR UPDATE`,
    values: [input.orgId, input.keyId],
  });
  const row = rows[0];
  if (row === undefined) return err(apiKeyNotFound(input.keyId));
  const record = toApiKeyRecord(row, input.nowMs);
  if (record.state === "active" && record.replacedBy === null) return ok(record);
  const why = record.state === "active" ? `was replaced by ${record.replacedBy}` : `is ${record.state}`;
  return err(
    userError("api_key_not_active", `The key ${record.id} ${why}, so it cannot be rotated. Create a new key.`),
  );
};

export const apiKeyNotFound = (keyId: string) =>
  userError("api_key_not_found", `There is no API key ${keyId.slice(0, 64)} in this organization.`);
