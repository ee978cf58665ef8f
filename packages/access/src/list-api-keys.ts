import type { Db } from "@shaman/db";
import { err, isId, invalidInput, ok, type Clock, type Result } from "@shaman/kernel";
import { z } from "zod";
import { forbidden } from "./access-deps.ts";
import { API_KEY_COLUMNS, toApiKeyRecord, type ApiKeyRecord, type ApiKeyRow } from "./api-key-record.ts";
import type { Principal } from "./principal.ts";

export const listApiKeysInput = z.strictObject({
  first: z.int().min(1).max(200).default(50),
  /** Cursor of the last key seen. */
  after: z
    .string()
    .refine((text) => isId("key", text), "is not a cursor of this list: start without it")
    .optional(),
});
export type ListApiKeysInput = z.input<typeof listApiKeysInput>;

export type ApiKeyPage = { readonly keys: readonly ApiKeyRecord[]; readonly endCursor: string | null };

/** The organization's keys, the newest first. Needs `apiKey:read`. Ids sort by time, so the id is the cursor. */
export const listApiKeys = async (
  deps: { readonly db: Db; readonly clock: Clock },
  principal: Principal,
  input: ListApiKeysInput = {},
): Promise<Result<ApiKeyPage>> => {
  if (!principal.can("apiKey:read", "/apiKeys/")) return err(forbidden("apiKey:read"));
  const parsed = listApiKeysInput.safeParse(input);
  if (!parsed.success) return err(invalidInput(parsed.error));
  const { first, after } = parsed.data;
  const { rows } = await deps.db.withOrg(principal.orgId, (tx) =>
    tx.query<ApiKeyRow>({
      text: `SELECT ${API_KEY_COLUMNS} FROM api_key k WHERE k.org_id = $1 AND ($2::text IS NULL OR k.id < $2)
        ORDER BY k.id DESC LIMIT $3`,
      values: [principal.orgId, after ?? null, first + 1],
    }),
  );
  const nowMs = deps.clock.now();
  const keys = rows.slice(0, first).map((row) => toApiKeyRecord(row, nowMs));
  return ok({ keys, endCursor: rows.length > first ? (keys.at(-1)?.id ?? null) : null });
};
