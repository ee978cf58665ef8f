import { hash } from "node:crypto";

import type { Db } from "@shaman/db";
import { AppError, err, ok, userError, type Result, type Secret } from "@shaman/kernel";
import type { Outbound } from "@shaman/outbound";
import { open, secretIdentity, type SecretKeys } from "@shaman/secrets";
import { z } from "zod";

import { createCachedModel } from "./cached-model.ts";
import { createFallbackModel } from "./fallback-model.ts";
import type { Model } from "./model-port.ts";
import type { ModelTimeouts } from "./provider/phase-timer.ts";
import {
  createProviderModel,
  PROVIDER_KINDS,
  type ProviderKind,
  type ProviderSettings,
} from "./provider/provider-model.ts";
import { withRequestDigest } from "./request-digest.ts";
import { createScriptedModel } from "./scripted/scripted-model.ts";

export type ResolveModelDeps = {
  readonly db: Pick<Db, "withOrg" | "batch">;
  readonly secretKeys: SecretKeys;
  readonly outbound: Pick<Outbound, "fetchWith">;
  readonly timeouts?: Partial<ModelTimeouts>;
  /** Hears what goes wrong with the cache of answers, which fails no call. */
  readonly onCacheError?: (error: unknown) => void;
};

export type ModelReference = {
  readonly orgId: string;
  /** `provider/model`; the model's name may hold slashes too. */
  readonly model: string;
  /** The agent that asks, where one does: its calls begin alike, which providers that cache want to know. */
  readonly agent?: string;
  /** Whether and how long answers are reused; a time of 0 is not at all. */
  readonly cache?: { readonly seconds: number; readonly maxAnswers: number };
  /** For `scripted/…`: the file beside the agent. */
  readonly script?: { readonly text: string; readonly fileName: string };
};

const DEFAULT_BASE_URLS: Record<ProviderKind, string | null> = {
  openai: "https://api.openai.com/v1",
  anthropic: "https://api.anthropic.com/v1",
  "openai-compatible": null,
};

/** A long answer is still one request; the phases inside have clocks of their own. */
const STREAM_LIMITS = { timeoutMs: 30 * 60_000, maxBytes: 64 * 1024 * 1024 };

const credentialRow = z.object({
  kind: z.enum(PROVIDER_KINDS),
  baseUrl: z.string().nullable(),
  secretId: z.string().nullable(),
  origin: z.string().nullable(),
  sealed: z.string().nullable(),
});
type CredentialRow = z.infer<typeof credentialRow>;

const SELECT_CREDENTIAL = `
  SELECT c.kind, c.base_url AS "baseUrl", c.secret_id AS "secretId", s.origin, s.sealed
  FROM model_credential c LEFT JOIN secret s ON s.org_id = c.org_id AND s.id = c.secret_id
  WHERE c.org_id = $1 AND c.provider = $2`;

const findCredential = (
  deps: ResolveModelDeps,
  key: { readonly orgId: string; readonly provider: string },
): Promise<CredentialRow | undefined> =>
  deps.db.withOrg(key.orgId, async (tx) => {
    const { rows } = await tx.query({
      name: "model_credential",
      text: SELECT_CREDENTIAL,
      values: [key.orgId, key.provider],
    });
    return rows[0] === undefined ? undefined : credentialRow.parse(rows[0]);
  });

const misconfigured = (provider: string, problem: string): Result<never> =>
  err(userError("model_auth_failed", `The credential of model provider "${provider}" cannot be used: ${problem}`));

/** Opens the key, if it was stored for this very origin: a changed base URL must not carry it elsewhere. */
const apiKeyOf = (
  deps: ResolveModelDeps,
  at: { readonly orgId: string; readonly provider: string; readonly baseUrl: string; readonly row: CredentialRow },
): Result<Secret | undefined> => {
  const { orgId, provider, baseUrl, row } = at;
  if (row.secretId === null) return ok(undefined);
  if (row.sealed === null || row.origin !== URL.parse(baseUrl)?.origin) {
    return misconfigured(provider, "its key was stored for another address. Set the key again.");
  }
  const opened = open(deps.secretKeys, {
    sealed: row.sealed,
    identity: secretIdentity({ orgId, secretId: row.secretId }),
  });
  if (opened.ok) return opened;
  return err(
    new AppError({
      code: "model_auth_failed",
      kind: "operational",
      message: `The key of model provider "${provider}" cannot be opened: ${opened.error.message}`,
      cause: opened.error,
    }),
  );
};

/** Hashed, because a provider takes 64 characters and need not learn our names. */
const promptCacheKey = (orgId: string, agent: string): string => hash("sha256", `${orgId}\n${agent}`, "base64url");

const unknownProvider = (provider: string): Result<never> =>
  err(
    userError(
      "model_unknown_provider",
      `This organization has no model provider "${provider}". Register it with a key, or name another model in the agent's front matter.`,
      { provider },
    ),
  );

const scripted = (reference: ModelReference): Result<Model> => {
  if (reference.script === undefined) {
    return err(
      userError(
        "model_script_invalid",
        `The script of "${reference.model}" does not lie beside the agent: add the file.`,
      ),
    );
  }
  const { text, fileName } = reference.script;
  return createScripted(text, fileName);
};

const createScripted = (script: string, fileName: string): Result<Model> => {
  try {
    return ok(createScriptedModel({ script, fileName }));
  } catch (thrown) {
    if (thrown instanceof AppError) return err(thrown);
    throw thrown;
  }
};

const cached = (
  deps: ResolveModelDeps,
  { orgId, model: name, cache }: ModelReference,
  provider: { readonly settings: ProviderSettings; readonly model: Model },
): Model => {
  if (cache === undefined || cache.seconds === 0) return provider.model;
  const { db, onCacheError } = deps;
  const source = [provider.settings.kind, provider.settings.baseUrl, name];
  return createCachedModel(
    { db, ...(onCacheError !== undefined && { onError: onCacheError }) },
    { orgId, ...cache, source },
    provider.model,
  );
};

/**
 * Finds the model that a name means for an organization: its script, or its provider's API with the organization's
 * key. Errors: `model_unknown_provider`, `model_script_invalid`, `model_request_invalid` for a name that is none,
 * `model_auth_failed` when the stored key cannot be used.
 */
export const resolveModel = async (deps: ResolveModelDeps, reference: ModelReference): Promise<Result<Model>> => {
  const { orgId, model } = reference;
  const slash = model.indexOf("/");
  if (slash < 1 || slash === model.length - 1) {
    return err(
      userError("model_request_invalid", `"${model}" is not the name of a model: write it as provider/model.`),
    );
  }
  const provider = model.slice(0, slash);
  if (provider === "scripted") return scripted(reference);

  const row = await findCredential(deps, { orgId, provider });
  if (row === undefined) return unknownProvider(provider);
  const baseUrl = row.baseUrl ?? DEFAULT_BASE_URLS[row.kind];
  if (baseUrl === null) return misconfigured(provider, "it has no base URL. Register the provider again with one.");
  const apiKey = apiKeyOf(deps, { orgId, provider, baseUrl, row });
  if (!apiKey.ok) return apiKey;
  const settings: ProviderSettings = {
    kind: row.kind,
    name: provider,
    baseUrl,
    ...(apiKey.value !== undefined && { apiKey: apiKey.value }),
    ...(reference.agent !== undefined && { promptCacheKey: promptCacheKey(orgId, reference.agent) }),
  };
  const { timeouts } = deps;
  const fetch = deps.outbound.fetchWith(STREAM_LIMITS);
  const provided = createProviderModel({ fetch, ...(timeouts && { timeouts }) }, settings);
  return ok(withRequestDigest(cached(deps, reference, { settings, model: provided })));
};

export type ModelListReference = Omit<ModelReference, "model"> & {
  /** `provider/model`, in the order in which they are asked. */
  readonly models: readonly string[];
};

/**
 * The models of a list as one, which asks the next where the one before is away. Every one of them must be usable, so
 * that a wrong name or a missing key shows at once and not on the day when the first provider fails. Errors as
 * `resolveModel`.
 */
export const resolveModels = async (
  deps: ResolveModelDeps,
  { models, ...reference }: ModelListReference,
): Promise<Result<Model>> => {
  const resolved = await Promise.all(models.map((model) => resolveModel(deps, { ...reference, model })));
  const candidates: { name: string; model: Model }[] = [];
  for (const [index, each] of resolved.entries()) {
    if (!each.ok) return each;
    candidates.push({ name: models[index] ?? "", model: each.value });
  }
  const [only, ...others] = candidates;
  if (only === undefined) return err(userError("model_request_invalid", "A list of models needs at least one."));
  return ok(others.length === 0 ? only.model : createFallbackModel(candidates));
};
