import { AppError, err, ok, userError, type Clock, type Result } from "@shaman/kernel";
import { hs256Key, kidOf, payloadOf, type Hs256Key } from "./hs256.ts";
import type { InternalJwtKeys } from "./internal-jwt-keys.ts";
import type { UseJti } from "./jti-store.ts";
import { createOwnJtis } from "./own-jtis.ts";
import {
  MAX_CLOCK_SKEW_SECONDS,
  MAX_TOKEN_LIFETIME_SECONDS,
  NONCE_LIFETIME_SECONDS,
  tokenClaims,
  type BoundRequest,
  type TokenClaims,
} from "./token-context.ts";
import { bodyHash } from "./token-minter.ts";

export type TokenVerifier = {
  /**
   * Checks everything a token must be, its one-time use last. Errors: `internal_token_invalid` (whatever is wrong with
   * it), `internal_token_misdirected` (it names another server, or this one and came late), thrown
   * `token_store_unavailable` when nobody can say whether it was used before.
   */
  readonly verify: (token: string, request: BoundRequest) => Promise<Result<TokenClaims>>;
};

const MAX_TOKEN_CHARS = 32_768;

const invalid = (reason: string): { readonly ok: false; readonly error: AppError } =>
  err(userError("internal_token_invalid", `The internal token was refused: ${reason}.`));

const misdirected = (): AppError =>
  userError("internal_token_misdirected", "The internal token names a server that does not take it, or no more.");

/** Verifies internal tokens of either key. */
export const createTokenVerifier = (deps: {
  readonly keys: InternalJwtKeys;
  readonly clock: Clock;
  readonly useJti: UseJti;
  /** What this server tells as its name: random, and new with each start. */
  readonly nonce: string;
}): TokenVerifier => {
  const useOwnJti = createOwnJtis(deps.clock);
  const keys = new Map<string, Hs256Key>();
  for (const key of deps.keys) if (key !== undefined) keys.set(key.kid, hs256Key(key));

  const readClaims = (token: string, nowMs: number): Result<TokenClaims> => {
    const key = keys.get(kidOf(token) ?? "");
    if (key === undefined) return invalid("it names no key of this installation for HS256");
    if (!key.hasSigned(token)) return invalid("its signature is wrong");
    const claims = tokenClaims.safeParse(payloadOf(token));
    if (!claims.success) {
      return invalid(`its claim ${claims.error.issues[0]?.path.join(".") ?? "set"} is missing or malformed`);
    }
    const { exp, nonce } = claims.data;
    if (exp > nowMs / 1000 - MAX_CLOCK_SKEW_SECONDS) return ok(claims.data);
    // It was right and waited too long; whoever sent it gets another that lives longer by naming nobody.
    return nonce === undefined ? invalid("it has expired") : err(misdirected());
  };

  return {
    verify: async (token, request) => {
      if (token.length > MAX_TOKEN_CHARS) return invalid("it is too long");
      const nowMs = deps.clock.now();
      const claims = readClaims(token, nowMs);
      if (!claims.ok) return claims;
      const mismatch = findMismatch(claims.value, request, nowMs);
      if (mismatch !== undefined) return invalid(mismatch);
      const { nonce, jti } = claims.value;
      if (nonce !== undefined && nonce !== deps.nonce) return err(misdirected());
      const use = nonce === undefined ? await useOnce(deps.useJti, claims.value) : useOwnJti(jti);
      return use === "fresh" ? claims : invalid("it was used before");
    },
  };
};

const findMismatch = (claims: TokenClaims, request: BoundRequest, nowMs: number): string | undefined => {
  const longest = claims.nonce === undefined ? MAX_TOKEN_LIFETIME_SECONDS : NONCE_LIFETIME_SECONDS;
  if (claims.exp - claims.iat > longest) return "it is valid for longer than allowed";
  if (claims.iat > nowMs / 1000 + MAX_CLOCK_SKEW_SECONDS) return "it was issued in the future";
  if (claims.htm !== request.method) return "it is for another method";
  if (claims.htu !== request.path) return "it is for another path";
  if (claims.bh !== bodyHash(request.body)) return "it is for another body";
  return undefined;
};

const useOnce = async (useJti: UseJti, claims: TokenClaims): Promise<"fresh" | "used"> => {
  try {
    return await useJti({ jti: claims.jti, expiresAtMs: (claims.exp + MAX_CLOCK_SKEW_SECONDS) * 1000 });
  } catch (cause) {
    throw new AppError({
      code: "token_store_unavailable",
      kind: "operational",
      message: "The store of used tokens cannot be reached, so no token can be accepted",
      retryAfterMs: 1_000,
      cause,
    });
  }
};
