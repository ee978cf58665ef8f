import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { createApiKey, createAuthenticator, createOperatorPrincipal, type Origin } from "@shaman/access";
import type { Db } from "@shaman/db";
import { systemClock, unwrap } from "@shaman/kernel";
import { addMember, ensureOrganization, ensureUser, updateOrganizationSettings } from "@shaman/tenancy";
import { z } from "zod";
import { readJsonFile, writeJsonFile } from "./json-file.ts";

export const SEED_ORIGIN: Origin = { server: "local" };
const OPERATOR = "local";

export type SeededOrganization = {
  readonly id: string;
  readonly slug: string;
  readonly apiKey: string;
  readonly user: { readonly email: string; readonly password: string };
};

/** What only we can know: the database holds hashes. By organization id, because another database has other keys. */
const credentialsFile = z.record(
  z.string(),
  z.object({ apiKey: z.string(), user: z.object({ email: z.string(), password: z.string() }) }),
);

const credentialsIn = (folder: string) => {
  const file = join(folder, "seeded.json");
  const all = credentialsFile.parse(readJsonFile(file) ?? {});
  return {
    find: (orgId: string) => all[orgId],
    save: (orgId: string, credentials: z.infer<typeof credentialsFile>[string]) =>
      writeJsonFile(file, { ...all, [orgId]: credentials }),
  };
};

/**
 * Makes sure of one organization with an owner and a key without rate limits that may call every exposed agent. A key
 * that still works is kept; one that was revoked, or belongs to another database, is replaced.
 */
export const seedOrganization = async (
  deps: { readonly db: Db; readonly folder: string },
  { slug, name }: { readonly slug: string; readonly name: string },
): Promise<SeededOrganization> => {
  const { db } = deps;
  const services = { db, origin: SEED_ORIGIN, clock: systemClock };
  const organization = unwrap(await ensureOrganization(services, { actor: `operator:${OPERATOR}`, slug, name }));
  const credentials = credentialsIn(deps.folder);
  const known = credentials.find(organization.id);
  const authenticator = createAuthenticator(services);
  const presentedKey = known?.apiKey ?? "";
  const valid = await authenticator.authenticate({ orgId: organization.id, presentedKey, ip: undefined });
  if (known !== undefined && valid.ok) return { id: organization.id, slug, ...known };

  const operator = createOperatorPrincipal({ orgId: organization.id, name: OPERATOR });
  const email = `owner@${slug}.example`;
  const user = unwrap(await ensureUser(services, { email, name: `Owner of ${name}` }));
  unwrap(await addMember(services, operator, { userId: user.id, role: "owner" }));
  unwrap(await updateOrganizationSettings(services, operator, { intake: { organizationRatePerSecond: 0 } }));
  const input = { name: "npm start", mode: "test", agents: "*", ratePerSecond: 0 } as const;
  const { key } = unwrap(await createApiKey(services, operator, { ...input, ownerId: `user:${user.id}` }));
  const password = known?.user.password ?? randomBytes(12).toString("base64url");
  const fresh = { apiKey: key.reveal(), user: { email, password } };
  credentials.save(organization.id, fresh);
  return { id: organization.id, slug, ...fresh };
};
