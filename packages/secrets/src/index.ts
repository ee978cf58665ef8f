export { needsResealing, open, seal, secretIdentity } from "./seal.ts";
export { parseSecretKeys, secretsConfig, type SecretKeys } from "./secret-keys.ts";
