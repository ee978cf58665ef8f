import { timingSafeEqual } from "node:crypto";
import type { Db } from "@shaman/db";
import { createFreshness, err, ok, userError, type AppError, type Clock, type Result } from "@shaman/kernel";
import { LRUCache } from "lru-cache";
import { hashApiKey, parseApiKey } from "./api-key-format.ts";
import type { Origin } from "./access-deps.ts";
import { createPermissionCheck, type Grant } from "./grants.ts";
import { createIpAllowList, type IpAllowList } from "./ip-allow-list.ts";
import { createLastUsed } from "./last-used.ts";
import type { Principal } from "./principal.ts";
import { createRefusalLog, type ForbiddenAct, type Refusal, type RefusalReason } from "./refusal-log.ts";

export type AuthenticateInput = {
  readonly orgId: string;
  /** As presented, without `Bearer`. */
  readonly presentedKey: string;
  /** The caller's address; a key with an IP list is refused without one. */
  readonly ip: string | undefined;
};

export type AuthenticatorDeps = {
  readonly db: Db;
  readonly clock: Clock;
  readonly origin: Origin;
  /** Told of every refusal, for metrics. */
  readonly onRefused?: (refusal: Refusal) => void;
  /** Keys remembered at most, and as many unknown ids. */
  readonly cacheEntries?: number;
  /** How old a remembered answer may be; revocation takes this long where nothing is told. */
  readonly cacheTtlMs?: number;
  /** Until when every change of a key was told to this authenticator; what it remembers was true then. */
  readonly toldUntilMs?: () => number;
};

export type Authenticator = {
  /**
   * The principal behind a key. There is one error, `unauthenticated`, for every reason: a key of another
   * organization cannot be told from nonsense. Throws the database's error when it cannot be asked.
   */
  readonly authenticate: (input: AuthenticateInput) => Promise<Result<Principal>>;
  /** Forgets one key: call it when a revocation or rotation is announced. */
  readonly invalidateKey: (key: { readonly orgId: string; readonly keyId: string }) => void;
  /** Forgets everything: call it when announcements may have been missed. */
  readonly invalidateAll: () => void;
  /** Notes that a key was good and may not do this all the same: it is audited as other refusals are. */
  readonly noteForbidden: (act: ForbiddenAct) => void;
  /** Writes which keys were refused; call it on a timer of a few seconds. */
  readonly flushRefusals: () => Promise<void>;
  /** Writes that, and when keys were last used, a statement an organization; call it now and then, and before stopping. */
  readonly flush: () => Promise<void>;
};

const DEFAULT_CACHE_ENTRIES = 10_000;
const DEFAULT_CACHE_TTL_MS = 5_000;

type KnownKey = {
  readonly hash: Buffer;
  readonly principal: Principal;
  readonly expiresAtMs: number | null;
  readonly revoked: boolean;
  readonly allowList: IpAllowList | null;
};

type Answer = { readonly key: KnownKey | null; readonly askedMs: number };

const unauthenticated = (): { readonly ok: false; readonly error: AppError } =>
  err(
    userError(
      "unauthenticated",
      "The API key is missing or not valid here. Send a valid key of this organization as `Authorization: Bearer sk_…`.",
    ),
  );

/**
 * Authenticates API keys with a memory: a key that is known, and known to be unchanged, costs one SHA-256.
 * Unknown ids are remembered apart from keys, so that a flood of them pushes no key out.
 */
export const createAuthenticator = (deps: AuthenticatorDeps): Authenticator => {
  const max = deps.cacheEntries ?? DEFAULT_CACHE_ENTRIES;
  const { clock, toldUntilMs } = deps;
  const isFresh = createFreshness({ clock, toldUntilMs, ttlMs: deps.cacheTtlMs ?? DEFAULT_CACHE_TTL_MS });
  const keys = new LRUCache<string, Answer>({ max });
  const unknown = new LRUCache<string, Answer>({ max });
  const loading = new Map<string, Promise<Answer>>();
  const lastUsed = createLastUsed(deps);
  const refusals = createRefusalLog(deps);
  let invalidations = 0;

  const load = async (orgId: string, keyId: string): Promise<Answer> => {
    // Counted from before the question: what comes back may be as old as that.
    const askedMs = clock.now();
    const before = invalidations;
    const answer = { key: await loadKey(deps.db, { orgId, keyId }), askedMs };
    // A key changed while we asked: answer this once, remember nothing.
    if (before === invalidations) (answer.key === null ? unknown : keys).set(`${orgId} ${keyId}`, answer);
    return answer;
  };

  const find = (orgId: string, keyId: string): Answer | Promise<Answer> => {
    const name = `${orgId} ${keyId}`;
    const cached = keys.get(name) ?? unknown.get(name);
    if (cached !== undefined && isFresh(cached.askedMs)) return cached;
    const running = loading.get(name);
    if (running !== undefined) return running;
    const started = load(orgId, keyId).finally(() => {
      if (loading.get(name) === started) loading.delete(name);
    });
    loading.set(name, started);
    return started;
  };

  return {
    authenticate: async ({ orgId, presentedKey, ip }) => {
      const refuse = (reason: RefusalReason, keyId?: string) => {
        const refusal = { orgId, reason, ip, ...(keyId !== undefined && { keyId }) };
        refusals.note(refusal);
        deps.onRefused?.(refusal);
        return unauthenticated();
      };
      const parsed = parseApiKey(presentedKey);
      if (parsed === undefined) return refuse("malformed");
      const found = find(orgId, parsed.keyId);
      const { key } = found instanceof Promise ? await found : found;
      if (key === null) return refuse("unknown");
      if (!timingSafeEqual(key.hash, hashApiKey(presentedKey))) return refuse("wrong_secret", parsed.keyId);
      if (key.revoked) return refuse("revoked", parsed.keyId);
      const nowMs = deps.clock.now();
      if (key.expiresAtMs !== null && key.expiresAtMs <= nowMs) return refuse("expired", parsed.keyId);
      if (key.allowList !== null && !key.allowList.allows(ip)) return refuse("ip_not_allowed", parsed.keyId);
      lastUsed.note({ orgId, keyId: parsed.keyId, atMs: nowMs });
      return ok(key.principal);
    },
    invalidateKey: ({ orgId, keyId }) => {
      invalidations += 1;
      const name = `${orgId} ${keyId}`;
      keys.delete(name);
      unknown.delete(name);
      loading.delete(name);
    },
    invalidateAll: () => {
      invalidations += 1;
      keys.clear();
      unknown.clear();
      loading.clear();
    },
    noteForbidden: refusals.noteForbidden,
    flushRefusals: refusals.flush,
    flush: async () => {
      await lastUsed.flush();
      await refusals.flush();
    },
  };
};

type KeyRow = {
  secret_hash: Buffer;
  owner_id: string;
  rate_per_second: number | null;
  priority: number | null;
  spend_is_limited: boolean;
  allowed_ips: string[];
  expires_at: Date | null;
  revoked_at: Date | null;
  grants: Grant[];
};

const loadKey = async (db: Db, input: { orgId: string; keyId: string }): Promise<KnownKey | null> => {
  const { rows } = await db.withOrg(input.orgId, (tx) =>
    tx.query<KeyRow>({
      name: "authenticate",
      text: `SELECT secret_hash, owner_id, rate_per_second, priority, monthly_spend_usd IS NOT NULL AS spend_is_limited, allowed_ips,
          expires_at, revoked_at,
          (SELECT coalesce(json_agg(json_build_object('action', g.action, 'resource', g.resource)), '[]')
            FROM "grant" g WHERE g.org_id = k.org_id AND g.subject = 'key:' || k.id) AS grants
        FROM api_key k WHERE k.org_id = $1 AND k.id = $2`,
      values: [input.orgId, input.keyId],
    }),
  );
  const row = rows[0];
  if (row === undefined) return null;
  const userId = row.owner_id.startsWith("user:") ? row.owner_id.slice("user:".length) : undefined;
  return {
    hash: row.secret_hash,
    principal: {
      orgId: input.orgId,
      id: row.owner_id,
      apiKeyId: input.keyId,
      ratePerSecond: row.rate_per_second,
      spendIsLimited: row.spend_is_limited,
      can: createPermissionCheck(row.grants),
      ...(userId !== undefined && { userId }),
      ...(row.priority !== null && { priority: row.priority }),
    },
    expiresAtMs: row.expires_at?.getTime() ?? null,
    revoked: row.revoked_at !== null,
    allowList: row.allowed_ips.length === 0 ? null : createIpAllowList(row.allowed_ips),
  };
};
