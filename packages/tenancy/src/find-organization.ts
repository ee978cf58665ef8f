import type { Db } from "@shaman/db";
import { err, invalidInput, ok, type Result } from "@shaman/kernel";
import { z } from "zod";
import { ORGANIZATION_COLUMNS, toOrganization, type Organization, type OrganizationRow } from "./organization.ts";

/** Finds an organization by its slug or its id, across organizations: for operators and for the look-up by host. */
export const findOrganization = async (
  deps: { readonly db: Pick<Db, "unscoped"> },
  by: { readonly slug: string } | { readonly id: string },
): Promise<Organization | undefined> => {
  const [column, value] = "slug" in by ? ["slug", by.slug] : ["id", by.id];
  const { rows } = await deps.db.unscoped((tx) =>
    tx.query<OrganizationRow>({
      name: `organization_by_${column}`,
      text: `SELECT ${ORGANIZATION_COLUMNS} FROM organization WHERE ${column} = $1`,
      values: [value],
    }),
  );
  return rows[0] === undefined ? undefined : toOrganization(rows[0]);
};

export const listOrganizationsInput = z.strictObject({
  first: z.int().min(1).max(200).default(50),
  /** Slug of the last organization seen. */
  after: z.string().max(63).default(""),
});
export type ListOrganizationsInput = z.input<typeof listOrganizationsInput>;

export type OrganizationPage = { readonly organizations: readonly Organization[]; readonly endCursor: string | null };

/** Every organization by slug: for operators only. */
export const listOrganizations = async (
  deps: { readonly db: Pick<Db, "unscoped"> },
  input: ListOrganizationsInput = {},
): Promise<Result<OrganizationPage>> => {
  const parsed = listOrganizationsInput.safeParse(input);
  if (!parsed.success) return err(invalidInput(parsed.error));
  const { first, after } = parsed.data;
  const { rows } = await deps.db.unscoped((tx) =>
    tx.query<OrganizationRow>({
      text: `SELECT ${ORGANIZATION_COLUMNS} FROM organization WHERE slug > $1 ORDER BY slug LIMIT $2`,
      values: [after, first + 1],
    }),
  );
  const organizations = rows.slice(0, first).map(toOrganization);
  return ok({ organizations, endCursor: rows.length > first ? (organizations.at(-1)?.slug ?? null) : null });
};

const MAX_WITH_RETENTION = 10_000;

/** The organizations that do not keep everything for ever, with what they keep: for the worker's retention. */
export const listRetention = async (deps: {
  readonly db: Pick<Db, "unscoped">;
}): Promise<readonly { readonly orgId: string; readonly artifactDays: number }[]> => {
  const { rows } = await deps.db.unscoped((tx) =>
    tx.query<OrganizationRow>({
      text: `SELECT ${ORGANIZATION_COLUMNS} FROM organization WHERE settings ? 'retention' ORDER BY id LIMIT ${MAX_WITH_RETENTION}`,
    }),
  );
  return rows
    .map(toOrganization)
    .map(({ id, settings }) => ({ orgId: id, artifactDays: settings.retention.artifactDays }))
    .filter(({ artifactDays }) => artifactDays > 0);
};
