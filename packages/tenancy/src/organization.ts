import { readSettings, type OrganizationSettings } from "./organization-settings.ts";

export type Organization = {
  readonly id: string;
  readonly slug: string;
  readonly name: string;
  readonly settings: OrganizationSettings;
  readonly createdAt: Date;
};

export type OrganizationRow = {
  readonly id: string;
  readonly slug: string;
  readonly name: string;
  readonly settings: unknown;
  readonly created_at: Date;
};

export const ORGANIZATION_COLUMNS = "id, slug, name, settings, created_at";

export const toOrganization = (row: OrganizationRow): Organization => ({
  id: row.id,
  slug: row.slug,
  name: row.name,
  settings: readSettings(row.settings),
  createdAt: row.created_at,
});
