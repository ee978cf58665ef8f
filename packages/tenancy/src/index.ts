export { getOrganizationSettings, updateOrganizationSettings } from "./change-settings.ts";
export { createOrganization, createOrganizationInput, ensureOrganization } from "./create-organization.ts";
export type { CreateOrganizationInput, TenancyDeps } from "./create-organization.ts";
export { findOrganization, listOrganizations, listOrganizationsInput, listRetention } from "./find-organization.ts";
export type { ListOrganizationsInput, OrganizationPage } from "./find-organization.ts";
export { addMember, addMemberInput, createUserInput, ensureUser, ROLES } from "./members.ts";
export type { AddMemberInput, CreateUserInput, Role, User } from "./members.ts";
export { clearModelCache, deleteExpiredModelResponses } from "./model-cache.ts";
export {
  listModelCredentials,
  MODEL_PROVIDER_KINDS,
  removeModelCredential,
  setModelCredential,
  setModelCredentialInput,
} from "./model-credentials.ts";
export type {
  ModelCredential,
  ModelCredentialDeps,
  ModelProviderKind,
  SetModelCredentialInput,
} from "./model-credentials.ts";
export { createOrganizationDirectory } from "./organization-directory.ts";
export type { OrganizationDirectory, OrganizationDirectoryDeps } from "./organization-directory.ts";
export { defaultSettings, modelsNamed, organizationSettings, readSettings } from "./organization-settings.ts";
export type { OrganizationSettings } from "./organization-settings.ts";
export type { Organization } from "./organization.ts";
export { listSettings, SETTING_NAMES, SETTING_TABLES } from "./setting-list.ts";
export { slugSchema } from "./slug.ts";
export { tenancyConfig } from "./tenancy-config.ts";
export type { TenancyConfig } from "./tenancy-config.ts";
