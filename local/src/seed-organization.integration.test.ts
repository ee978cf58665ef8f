import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createAuthenticator, createOperatorPrincipal, revokeApiKey } from "@shaman/access";
import { systemClock, unwrap } from "@shaman/kernel";
import { testDatabase, type TestDatabase } from "@shaman/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";
import { SEED_ORIGIN, seedOrganization } from "./seed-organization.ts";

const folder = mkdtempSync(join(tmpdir(), "shaman seed "));
const state: { database?: TestDatabase } = {};

beforeAll(async () => {
  state.database = await testDatabase();
});

afterAll(async () => {
  await state.database?.close();
  rmSync(folder, { recursive: true, force: true });
});

const given = () => {
  const { database } = state;
  if (database === undefined) throw new Error("the database is not there");
  const db = database.as("web");
  const authenticator = createAuthenticator({ db, clock: systemClock, origin: SEED_ORIGIN });
  return { database, db, authenticator, services: { db, origin: SEED_ORIGIN, clock: systemClock } };
};

test("a seeded organization has an owner and a key without limits, and a second seed changes nothing", async () => {
  const { database, db, authenticator } = given();
  const first = await seedOrganization({ db, folder }, { slug: "acme", name: "Acme" });
  const second = await seedOrganization({ db, folder }, { slug: "acme", name: "Acme" });
  expect(second).toEqual(first);
  expect(first.apiKey).toMatch(/^sk_test_/);
  expect(statSync(join(folder, "seeded.json")).mode & 0o777).toBe(0o600);
  const orgId = first.id;
  const principal = unwrap(await authenticator.authenticate({ orgId, presentedKey: first.apiKey, ip: undefined }));
  expect(principal.ratePerSecond).toBe(0);
  const rows = await database.inspect("SELECT role FROM membership WHERE org_id = $1", [orgId]);
  expect(rows).toEqual([{ role: "owner" }]);
  expect(await database.inspect("SELECT id FROM api_key WHERE org_id = $1", [orgId])).toHaveLength(1);
});

test("a revoked key is replaced, and the password stays", async () => {
  const { db, services, authenticator } = given();
  const first = await seedOrganization({ db, folder }, { slug: "techcorp", name: "Techcorp" });
  const orgId = first.id;
  const principal = unwrap(await authenticator.authenticate({ orgId, presentedKey: first.apiKey, ip: undefined }));
  const operator = createOperatorPrincipal({ orgId, name: "test" });
  unwrap(await revokeApiKey(services, operator, { keyId: principal.apiKeyId ?? "" }));
  const second = await seedOrganization({ db, folder }, { slug: "techcorp", name: "Techcorp" });
  expect(second.apiKey).not.toBe(first.apiKey);
  expect(second.user).toEqual(first.user);
});

test("credentials of another database are not taken for this one's", async () => {
  const { db } = given();
  const other = await testDatabase();
  try {
    const here = await seedOrganization({ db, folder }, { slug: "acme", name: "Acme" });
    const there = await seedOrganization({ db: other.as("web"), folder }, { slug: "acme", name: "Acme" });
    expect(there.apiKey).not.toBe(here.apiKey);
    expect(await seedOrganization({ db, folder }, { slug: "acme", name: "Acme" })).toMatchObject({
      apiKey: here.apiKey,
    });
  } finally {
    await other.close();
  }
});
