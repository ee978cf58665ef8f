import type { ApiKeyRecord } from "@shaman/access";
import type { Organization } from "@shaman/tenancy";

/** What `--json` prints. Scripts rely on these names: add fields, never rename or remove one. */

const time = (at: Date | null): string | null => at?.toISOString() ?? null;

export const organizationJson = (organization: Organization) => ({
  id: organization.id,
  slug: organization.slug,
  name: organization.name,
  createdAt: time(organization.createdAt),
});

export const apiKeyJson = (key: ApiKeyRecord) => ({
  ...key,
  createdAt: time(key.createdAt),
  expiresAt: time(key.expiresAt),
  revokedAt: time(key.revokedAt),
  lastUsedAt: time(key.lastUsedAt),
});
