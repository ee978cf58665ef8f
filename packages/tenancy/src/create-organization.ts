import type { Origin } from "@shaman/access";
import { recordAudit } from "@shaman/audit";
import { isUniqueViolation, type Db } from "@shaman/db";
import { err, invalidInput, newId, ok, userError, type Result } from "@shaman/kernel";
import { z } from "zod";
import { findOrganization } from "./find-organization.ts";
import { ORGANIZATION_COLUMNS, toOrganization, type Organization, type OrganizationRow } from "./organization.ts";
import { slugSchema } from "./slug.ts";

export type TenancyDeps = { readonly db: Db; readonly origin: Origin };

export const createOrganizationInput = z.strictObject({
  /** Who does it, such as `operator:root`: only operators make organizations. */
  actor: z.string().regex(/^(?:operator|system):\S{1,200}$/, "must be operator:… or system:…"),
  slug: slugSchema,
  name: z.string().trim().min(1, "must not be empty").max(200),
});
export type CreateOrganizationInput = z.input<typeof createOrganizationInput>;

/**
 * Makes an organization, with its audit row. Errors: `invalid_input`, `slug_taken`. The caller must be the operator's
 * own command line or the seed.
 */
export const createOrganization = async (
  deps: TenancyDeps,
  input: CreateOrganizationInput,
): Promise<Result<Organization>> => {
  const parsed = createOrganizationInput.safeParse(input);
  if (!parsed.success) return err(invalidInput(parsed.error));
  const { actor, slug, name } = parsed.data;
  const orgId = newId("org");
  try {
    const row = await deps.db.withOrg(orgId, async (tx) => {
      const { rows } = await tx.query<OrganizationRow>({
        text: `INSERT INTO organization (id, slug, name) VALUES ($1, $2, $3) RETURNING ${ORGANIZATION_COLUMNS}`,
        values: [orgId, slug, name],
      });
      const act = { action: "organization:create", resource: "/organization/", details: { slug, name } };
      await recordAudit(tx, { orgId, actor, result: "ok", ...deps.origin, ...act });
      return rows[0];
    });
    if (row !== undefined) return ok(toOrganization(row));
    throw new Error("PostgreSQL inserted an organization and returned none");
  } catch (error) {
    if (!isUniqueViolation(error, "organization_slug_key")) throw error;
    return err(userError("slug_taken", `There is an organization "${slug}" already: choose another name.`));
  }
};

/** The organization of this slug, made when it is not there. Safe to run many times and at once. */
export const ensureOrganization = async (
  deps: TenancyDeps,
  input: CreateOrganizationInput,
): Promise<Result<Organization>> => {
  const found = await findOrganization(deps, { slug: input.slug });
  if (found !== undefined) return ok(found);
  const created = await createOrganization(deps, input);
  if (created.ok || created.error.code !== "slug_taken") return created;
  const winner = await findOrganization(deps, { slug: input.slug });
  return winner === undefined ? created : ok(winner);
};
