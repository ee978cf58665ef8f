export { formatCacheChange, isCacheChange, parseCacheChange } from "./cache-change.ts";
export type { CacheChange } from "./cache-change.ts";
export type { AccessDeps, KeyChange, Origin } from "./access-deps.ts";
export { auditOf, forbidden } from "./access-deps.ts";
export type { ApiKeyMode } from "./api-key-format.ts";
export type { ApiKeyRecord, ApiKeyState } from "./api-key-record.ts";
export { createAuthenticator } from "./authenticator.ts";
export type { AuthenticateInput, Authenticator, AuthenticatorDeps } from "./authenticator.ts";
export { createApiKey, createApiKeyInput } from "./create-api-key.ts";
export type { CreateApiKeyInput, CreatedApiKey } from "./create-api-key.ts";
export {
  agentGrantResource,
  agentResource,
  createPermissionCheck,
  isGrantResource,
  resourceSegment,
} from "./grants.ts";
export type { Can, Grant } from "./grants.ts";
export { internalJwtConfig, noInternalJwtConfig, parseInternalJwtKeys } from "./internal-jwt-keys.ts";
export type { InternalJwtKey, InternalJwtKeys } from "./internal-jwt-keys.ts";
export { createPostgresJtiStore, createRedisJtiStore, deleteExpiredJtis } from "./jti-store.ts";
export type { DeleteExpiredJtisInput, JtiRedis, JtiUse, UseJti } from "./jti-store.ts";
export { listApiKeys, listApiKeysInput } from "./list-api-keys.ts";
export type { ApiKeyPage, ListApiKeysInput } from "./list-api-keys.ts";
export { createOperatorPrincipal } from "./principal.ts";
export type { Principal } from "./principal.ts";
export type { Refusal, RefusalReason } from "./refusal-log.ts";
export { revokeApiKey } from "./revoke-api-key.ts";
export { rotateApiKey, rotateApiKeyInput } from "./rotate-api-key.ts";
export type { RotateApiKeyInput } from "./rotate-api-key.ts";
export { tokenContext, TOKEN_AUDIENCE, TOKEN_ISSUERS } from "./token-context.ts";
export type { BoundRequest, TokenClaims, TokenContext, TokenIssuer } from "./token-context.ts";
export { createTokenMinter } from "./token-minter.ts";
export type { MintInput, TokenMinter } from "./token-minter.ts";
export { createTokenVerifier } from "./token-verifier.ts";
export type { TokenVerifier } from "./token-verifier.ts";
