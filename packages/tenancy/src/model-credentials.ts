import { auditOf, forbidden, resourceSegment, type Origin, type Principal } from "@shaman/access";
import { recordAudit } from "@shaman/audit";
import type { Db, Tx } from "@shaman/db";
import { err, invalidInput, newId, ok, Secret, userError, type Result } from "@shaman/kernel";
import type { Outbound } from "@shaman/outbound";
import { seal, secretIdentity, type SecretKeys } from "@shaman/secrets";
import { z } from "zod";

export const MODEL_PROVIDER_KINDS = ["openai", "anthropic", "openai-compatible"] as const;
export type ModelProviderKind = (typeof MODEL_PROVIDER_KINDS)[number];

/** A model provider as the organization registered it; its key is sealed and comes out nowhere. */
export type ModelCredential = {
  /** Begins the names of its models: `provider/model`. */
  readonly provider: string;
  readonly kind: ModelProviderKind;
  /** Null: the provider's own address. */
  readonly baseUrl: string | null;
  readonly hasKey: boolean;
  readonly updatedAt: Date;
};

export const setModelCredentialInput = z.strictObject({
  provider: z
    .string()
    .regex(/^[a-z0-9][a-z0-9-]{0,63}$/, "must be a name of a-z, 0-9 and -")
    .refine((name) => name !== "scripted", "scripted models need no provider"),
  kind: z.enum(MODEL_PROVIDER_KINDS),
  baseUrl: z.string().max(2_000).optional(),
  /** Absent for a server that asks for none. */
  key: z.instanceof(Secret).optional(),
});
export type SetModelCredentialInput = z.input<typeof setModelCredentialInput>;

/** Where a key goes when no address is given. */
const ORIGINS = { openai: "https://api.openai.com", anthropic: "https://api.anthropic.com" } as const;
const KEY = /^[\x21-\x7e]{1,4096}$/;

const SET = "modelCredential:set";
const READ = "modelCredential:read";
const DELETE = "modelCredential:delete";

export type ModelCredentialDeps = {
  readonly db: Db;
  readonly origin: Origin;
  readonly secretKeys: SecretKeys;
  readonly checkUrl: Outbound["checkUrl"];
};

/** The origin that the key is bound to: a base URL that is changed later does not carry it elsewhere. */
const originOf = async (
  deps: Pick<ModelCredentialDeps, "checkUrl">,
  input: { readonly kind: ModelProviderKind; readonly baseUrl?: string | undefined },
): Promise<Result<string>> => {
  if (input.baseUrl !== undefined) {
    const checked = await deps.checkUrl(input.baseUrl);
    return checked.ok ? ok(new URL(input.baseUrl).origin) : checked;
  }
  if (input.kind !== "openai-compatible") return ok(ORIGINS[input.kind]);
  return err(userError("invalid_input", "An openai-compatible provider needs its base URL, such as https://…/v1."));
};

/**
 * Registers a model provider, or replaces its address and key. Needs `modelCredential:set`. Errors: `forbidden`,
 * `invalid_input`, `outbound_refused` for an address that must not be called.
 */
export const setModelCredential = async (
  deps: ModelCredentialDeps,
  principal: Principal,
  input: SetModelCredentialInput,
): Promise<Result<ModelCredential>> => {
  if (!principal.can(SET, "/models/")) return err(forbidden(SET));
  const parsed = setModelCredentialInput.safeParse(input);
  if (!parsed.success) return err(invalidInput(parsed.error));
  const { provider, kind, baseUrl, key } = parsed.data;
  const origin = await originOf(deps, { kind, baseUrl });
  if (!origin.ok) return origin;
  if (key !== undefined && !KEY.test(key.reveal())) {
    return err(userError("invalid_input", "The key must be one line without spaces."));
  }
  const { orgId } = principal;
  const row = await deps.db.withOrg(orgId, async (tx) => {
    const before = await lockSecretId(tx, { orgId, provider });
    const secretId =
      key === undefined
        ? null
        : await insertSecret(tx, deps.secretKeys, { orgId, provider, origin: origin.value, key });
    const { rows } = await tx.query<ModelCredential>({
      text: `INSERT INTO model_credential (org_id, provider, kind, base_url, secret_id) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (org_id, provider) DO UPDATE SET kind = excluded.kind, base_url = excluded.base_url,
          secret_id = excluded.secret_id, updated_at = now()
        RETURNING ${COLUMNS}`,
      values: [orgId, provider, kind, baseUrl ?? null, secretId],
    });
    await deleteSecret(tx, { orgId, secretId: before });
    const details = { kind, baseUrl: baseUrl ?? null, key: key !== undefined };
    await recordAudit(tx, auditOf(deps, principal, { action: SET, resource: resourceOf(provider), details }));
    return rows[0];
  });
  if (row === undefined) throw new Error("PostgreSQL stored a model credential and returned none");
  return ok(row);
};

/** Forgets a provider and its key. Needs `modelCredential:delete`. Errors: `forbidden`, `model_provider_not_found`. */
export const removeModelCredential = async (
  deps: Pick<ModelCredentialDeps, "db" | "origin">,
  principal: Principal,
  input: { readonly provider: string },
): Promise<Result<{ readonly provider: string }>> => {
  if (!principal.can(DELETE, "/models/")) return err(forbidden(DELETE));
  const { orgId } = principal;
  const { provider } = input;
  const removed = await deps.db.withOrg(orgId, async (tx) => {
    const secretId = await lockSecretId(tx, { orgId, provider });
    const { rowCount } = await tx.query({
      text: "DELETE FROM model_credential WHERE org_id = $1 AND provider = $2",
      values: [orgId, provider],
    });
    if (rowCount === 0) return false;
    await deleteSecret(tx, { orgId, secretId });
    await recordAudit(tx, auditOf(deps, principal, { action: DELETE, resource: resourceOf(provider) }));
    return true;
  });
  if (removed) return ok({ provider });
  return err(
    userError("model_provider_not_found", `This organization has no model provider "${provider.slice(0, 64)}".`),
  );
};

/** The organization's model providers by name. Needs `modelCredential:read`. */
export const listModelCredentials = async (
  deps: Pick<ModelCredentialDeps, "db">,
  principal: Principal,
): Promise<Result<readonly ModelCredential[]>> => {
  if (!principal.can(READ, "/models/")) return err(forbidden(READ));
  const { rows } = await deps.db.withOrg(principal.orgId, (tx) =>
    tx.query<ModelCredential>({
      text: `SELECT ${COLUMNS} FROM model_credential WHERE org_id = $1 ORDER BY provider LIMIT 500`,
      values: [principal.orgId],
    }),
  );
  return ok(rows);
};

const COLUMNS = `provider, kind, base_url AS "baseUrl", secret_id IS NOT NULL AS "hasKey", updated_at AS "updatedAt"`;

const resourceOf = (provider: string): string => `/models/${resourceSegment(provider)}/`;

type SecretPlace = { readonly orgId: string; readonly secretId: string | null };

const lockSecretId = async (
  tx: Tx,
  key: { readonly orgId: string; readonly provider: string },
): Promise<string | null> => {
  const { rows } = await tx.query<{ secret_id: string | null }>({
    text: "SELECT secret_id FROM model_credential WHERE org_id = $1 AND provider = $2 FOR UPDATE",
    values: [key.orgId, key.provider],
  });
  return rows[0]?.secret_id ?? null;
};

const insertSecret = async (
  tx: Tx,
  keys: SecretKeys,
  input: { readonly orgId: string; readonly provider: string; readonly origin: string; readonly key: Secret },
): Promise<string> => {
  const secretId = newId("secret");
  const sealed = seal(keys, { plaintext: input.key, identity: secretIdentity({ orgId: input.orgId, secretId }) });
  await tx.query({
    text: "INSERT INTO secret (org_id, id, name, origin, sealed) VALUES ($1, $2, $3, $4, $5)",
    values: [input.orgId, secretId, `model provider ${input.provider}`, input.origin, sealed],
  });
  return secretId;
};

const deleteSecret = async (tx: Tx, { orgId, secretId }: SecretPlace): Promise<void> => {
  if (secretId === null) return;
  await tx.query({ text: "DELETE FROM secret WHERE org_id = $1 AND id = $2", values: [orgId, secretId] });
};
