import { auditOf, forbidden, resourceSegment, type Principal } from "@shaman/access";
import { recordAudit } from "@shaman/audit";
import type { Tx } from "@shaman/db";
import { err, invalidInput, newId, ok, userError, type Result } from "@shaman/kernel";
import { z } from "zod";
import type { TenancyDeps } from "./create-organization.ts";

export const ROLES = ["owner", "admin", "member", "viewer"] as const;
export type Role = (typeof ROLES)[number];

export type User = { readonly id: string; readonly email: string; readonly name: string };

export const createUserInput = z.strictObject({
  email: z.string().trim().toLowerCase().pipe(z.email("must be an e-mail address")).pipe(z.string().max(254)),
  name: z.string().trim().min(1, "must not be empty").max(200),
});
export type CreateUserInput = z.input<typeof createUserInput>;

/**
 * The person with this address, made when there is none; safe to run many times. A person is no tenant's data and may
 * belong to several organizations; how they prove who they are is the identity service's matter.
 */
export const ensureUser = async (deps: Pick<TenancyDeps, "db">, input: CreateUserInput): Promise<Result<User>> => {
  const parsed = createUserInput.safeParse(input);
  if (!parsed.success) return err(invalidInput(parsed.error));
  const { email, name } = parsed.data;
  const user = await deps.db.unscoped(async (tx) => {
    await tx.query({
      text: `INSERT INTO "user" (id, email, name) VALUES ($1, $2, $3) ON CONFLICT (email) DO NOTHING`,
      values: [newId("user"), email, name],
    });
    return findUser(tx, { email });
  });
  if (user === undefined) throw new Error("A user that was just made sure of is not there");
  return ok(user);
};

const findUser = async (
  tx: Tx,
  by: { readonly email: string } | { readonly id: string },
): Promise<User | undefined> => {
  const [column, value] = "email" in by ? ["email", by.email] : ["id", by.id];
  const { rows } = await tx.query<User>({
    text: `SELECT id, email, name FROM "user" WHERE ${column} = $1`,
    values: [value],
  });
  return rows[0];
};

export const addMemberInput = z.strictObject({ userId: z.string().max(64), role: z.enum(ROLES) });
export type AddMemberInput = z.input<typeof addMemberInput>;

const ADD = "member:add";

/**
 * Makes a person a member, or changes the role they have; nothing happens when they have it already. Needs
 * `member:add`. Errors: `forbidden`, `invalid_input`, `user_not_found`.
 */
export const addMember = async (
  deps: TenancyDeps,
  principal: Principal,
  input: AddMemberInput,
): Promise<Result<{ readonly role: Role }>> => {
  if (!principal.can(ADD, "/members/")) return err(forbidden(ADD));
  const parsed = addMemberInput.safeParse(input);
  if (!parsed.success) return err(invalidInput(parsed.error));
  const { userId, role } = parsed.data;
  const user = await deps.db.unscoped((tx) => findUser(tx, { id: userId }));
  if (user === undefined) return err(userError("user_not_found", "There is no such person."));
  await deps.db.withOrg(principal.orgId, async (tx) => {
    const { rowCount } = await tx.query({
      text: `INSERT INTO membership (org_id, user_id, role) VALUES ($1, $2, $3)
        ON CONFLICT (org_id, user_id) DO UPDATE SET role = excluded.role WHERE membership.role <> excluded.role`,
      values: [principal.orgId, userId, role],
    });
    if (rowCount === 0) return;
    const act = { action: ADD, resource: `/members/${resourceSegment(userId)}/`, details: { role } };
    await recordAudit(tx, auditOf(deps, principal, act));
  });
  return ok({ role });
};
