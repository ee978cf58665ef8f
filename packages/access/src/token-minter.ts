import { hash } from "node:crypto";
import { randomText, type Clock } from "@shaman/kernel";
import type { InternalJwtKeys } from "./internal-jwt-keys.ts";
import { hs256Key } from "./hs256.ts";
import {
  MAX_TOKEN_LIFETIME_SECONDS,
  NONCE_LIFETIME_SECONDS,
  TOKEN_AUDIENCE,
  type BoundRequest,
  type TokenContext,
  type TokenIssuer,
} from "./token-context.ts";

export type MintInput = {
  readonly issuer: TokenIssuer;
  readonly request: BoundRequest;
  readonly context: TokenContext;
  /** At most 300, which is also the default: expiry is looked at only when a request begins. */
  readonly lifetimeSeconds?: number;
  /** What the server it is for has told. Such a token lives for 30 seconds at most. */
  readonly nonce?: string;
};

export type TokenMinter = { readonly mint: (input: MintInput) => string };

/** What `bh` holds: base64url of the SHA-256 of the raw body. */
export const bodyHash = (body: string | Uint8Array): string => hash("sha256", body, "base64url");

/** Makes internal tokens with the first key. Each token is good for one request. */
export const createTokenMinter = (deps: { readonly keys: InternalJwtKeys; readonly clock: Clock }): TokenMinter => {
  const key = hs256Key(deps.keys[0]);
  return {
    mint: ({ issuer, request, context, lifetimeSeconds = MAX_TOKEN_LIFETIME_SECONDS, nonce }) => {
      const longest = nonce === undefined ? MAX_TOKEN_LIFETIME_SECONDS : NONCE_LIFETIME_SECONDS;
      const iat = Math.floor(deps.clock.now() / 1000);
      const claims = {
        iss: issuer,
        aud: TOKEN_AUDIENCE,
        iat,
        exp: iat + Math.min(lifetimeSeconds, longest),
        jti: randomText(29),
        ...(nonce !== undefined && { nonce }),
        htm: request.method,
        htu: request.path,
        bh: bodyHash(request.body),
        context,
      };
      return key.sign(JSON.stringify(claims));
    },
  };
};
