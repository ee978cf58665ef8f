import { recordAudit } from "@shaman/audit";
import { err, ok, type Result } from "@shaman/kernel";
import { apiKeyResource, auditOf, forbidden, type AccessDeps } from "./access-deps.ts";
import { API_KEY_COLUMNS, toApiKeyRecord, type ApiKeyRecord, type ApiKeyRow } from "./api-key-record.ts";
import type { Principal } from "./principal.ts";
import { apiKeyNotFound } from "./rotate-api-key.ts";

const REVOKE = "apiKey:revoke";

/**
 * Ends a key for good: at once where the change is announced, everywhere within 5 seconds. Revoking it again changes
 * nothing. Needs `apiKey:revoke`. Errors: `forbidden`, `api_key_not_found`.
 */
export const revokeApiKey = async (
  deps: AccessDeps,
  principal: Principal,
  input: { readonly keyId: string },
): Promise<Result<ApiKeyRecord>> => {
  if (!principal.can(REVOKE, apiKeyResource(input.keyId))) return err(forbidden(REVOKE));
  const nowMs = deps.clock.now();
  const row = await deps.db.withOrg(principal.orgId, async (tx) => {
    const changed = await tx.query({
      text: "UPDATE api_key SET revoked_at = $3 WHERE org_id = $1 AND id = $2 AND revoked_at IS NULL",
      values: [principal.orgId, input.keyId, new Date(nowMs)],
    });
    if (changed.rowCount === 1) {
      await recordAudit(tx, auditOf(deps, principal, { action: REVOKE, resource: apiKeyResource(input.keyId) }));
    }
    const { rows } = await tx.query<ApiKeyRow>({
      text: `SELECT ${API_KEY_COLUMNS} FROM api_key k WHERE k.org_id = $1 AND k.id = $2`,
      values: [principal.orgId, input.keyId],
    });
    return rows[0];
  });
  if (row === undefined) return err(apiKeyNotFound(input.keyId));
  await deps.announceKeyChange?.({ orgId: principal.orgId, keyId: input.keyId });
  return ok(toApiKeyRecord(row, nowMs));
};
