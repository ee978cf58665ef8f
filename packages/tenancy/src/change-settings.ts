import { auditOf, forbidden, type Origin, type Principal } from "@shaman/access";
import { recordAudit } from "@shaman/audit";
import type { Db } from "@shaman/db";
import { err, isJsonObject, ok, userError, type Json, type JsonObject, type Result } from "@shaman/kernel";
import { readSettings, type OrganizationSettings } from "./organization-settings.ts";
import { changeSettings } from "./settings-patch.ts";

const READ = "organization:read";
const UPDATE = "organization:update";

const notFound = () => userError("organization_not_found", "There is no such organization.");

export type OrganizationSettingsView = {
  /** As they hold. */
  readonly settings: OrganizationSettings;
  /** What the organization has set, by group and name. */
  readonly overrides: JsonObject;
};

/** The settings and which of them the organization has set itself. Needs `organization:read`. Errors: `forbidden`, `organization_not_found`. */
export const getOrganizationSettings = async (
  deps: { readonly db: Db },
  principal: Principal,
): Promise<Result<OrganizationSettingsView>> => {
  if (!principal.can(READ, "/organization/")) return err(forbidden(READ));
  const { rows } = await deps.db.withOrg(principal.orgId, (tx) =>
    tx.query<{ settings: Json }>({
      text: "SELECT settings FROM organization WHERE id = $1",
      values: [principal.orgId],
    }),
  );
  if (rows[0] === undefined) return err(notFound());
  const stored = rows[0].settings;
  return ok({ settings: readSettings(stored), overrides: isJsonObject(stored) ? stored : {} });
};

/**
 * Changes settings: what the patch does not name stays, a null goes back to the default (RFC 7396). Needs
 * `organization:update`. Errors: `forbidden`, `invalid_input`, `organization_not_found`.
 */
export const updateOrganizationSettings = async (
  deps: { readonly db: Db; readonly origin: Origin; readonly announceChange?: (orgId: string) => Promise<void> },
  principal: Principal,
  patch: JsonObject,
): Promise<Result<OrganizationSettings>> => {
  if (!principal.can(UPDATE, "/organization/")) return err(forbidden(UPDATE));
  const changed = await deps.db.withOrg(principal.orgId, async (tx): Promise<Result<Json>> => {
    const { rows } = await tx.query<{ settings: Json }>({
      text: "SELECT settings FROM organization WHERE id = $1 FOR UPDATE",
      values: [principal.orgId],
    });
    if (rows[0] === undefined) return err(notFound());
    const next = changeSettings(rows[0].settings, patch);
    if (!next.ok) return next;
    await tx.query({
      text: "UPDATE organization SET settings = $2 WHERE id = $1",
      values: [principal.orgId, JSON.stringify(next.value)],
    });
    const act = { action: UPDATE, resource: "/organization/", details: { patch } };
    await recordAudit(tx, auditOf(deps, principal, act));
    return next;
  });
  if (!changed.ok) return changed;
  await deps.announceChange?.(principal.orgId);
  return ok(readSettings(changed.value));
};
