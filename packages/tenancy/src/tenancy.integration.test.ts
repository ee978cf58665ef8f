import { createOperatorPrincipal, type Principal } from "@shaman/access";
import { unwrap, type Clock } from "@shaman/kernel";
import { testDatabase, type TestDatabase } from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { getOrganizationSettings, updateOrganizationSettings } from "./change-settings.ts";
import { createOrganization, ensureOrganization, type TenancyDeps } from "./create-organization.ts";
import { listOrganizations } from "./find-organization.ts";
import { addMember, ensureUser } from "./members.ts";
import { createOrganizationDirectory } from "./organization-directory.ts";

let database: TestDatabase;
let deps: TenancyDeps;

beforeAll(async () => {
  database = await testDatabase();
  deps = { db: database.as("web"), origin: { server: "cli" } };
});
afterAll(() => database.close());

let made = 0;
const newSlug = (): string => `org-${(made += 1)}-${Math.random().toString(36).slice(2, 8)}`;
const actor = "operator:test";

const given = async () => {
  const organization = unwrap(await createOrganization(deps, { actor, slug: newSlug(), name: "An organization" }));
  return { organization, operator: createOperatorPrincipal({ orgId: organization.id, name: "test" }) };
};

const audited = (orgId: string) =>
  database.inspect<{ action: string }>("SELECT action FROM audit_log WHERE org_id = $1 ORDER BY id", [orgId]);

const nobody = (orgId: string): Principal => ({
  orgId,
  id: "user:nobody",
  apiKeyId: null,
  ratePerSecond: null,
  can: () => false,
});

describe("organizations", () => {
  test("are made with an audit row, and a taken slug is refused in words", async () => {
    const { organization } = await given();
    expect((await audited(organization.id)).map((row) => row.action)).toEqual(["organization:create"]);
    const again = await createOrganization(deps, { actor, slug: organization.slug, name: "Other" });
    expect(again.ok ? "ok" : again.error.code).toBe("slug_taken");
    const reserved = await createOrganization(deps, { actor, slug: "www", name: "Other" });
    expect(reserved.ok ? "ok" : reserved.error.code).toBe("invalid_input");
  });

  test("are made once however many make sure of them at the same time", async () => {
    const slug = newSlug();
    const results = await Promise.all(
      Array.from({ length: 8 }, () => ensureOrganization(deps, { actor, slug, name: "Seeded" })),
    );
    expect(new Set(results.map((result) => unwrap(result).id)).size).toBe(1);
  });

  test("are listed once each, page by page, by slug", async () => {
    for (let n = 0; n < 5; n += 1) await given();
    const slugs: string[] = [];
    let after = "";
    for (;;) {
      const page = unwrap(await listOrganizations(deps, { first: 2, after }));
      slugs.push(...page.organizations.map((each) => each.slug));
      if (page.endCursor === null) break;
      after = page.endCursor;
    }
    const all = await database.inspect("SELECT 1 FROM organization");
    expect(new Set(slugs).size).toBe(slugs.length);
    expect(slugs).toHaveLength(all.length);
  });
});

describe("the look-up by host", () => {
  const directory = (more: { toldUntilMs?: () => number } = {}) => {
    const db = database.as("public");
    const asked = { times: 0 };
    let nowMs = 0;
    const clock: Clock = { now: () => nowMs };
    const made = createOrganizationDirectory({
      db: { unscoped: (work) => ((asked.times += 1), db.unscoped(work)) },
      clock,
      baseDomain: "localhost",
      cacheEntries: 10,
      ...more,
    });
    return { ...made, asked, forward: (ms: number) => void (nowMs += ms) };
  };

  test("finds the organization, remembers it for 5 seconds, and asks once for many callers", async () => {
    const { organization } = await given();
    const { byHost, byId, asked, forward } = directory();
    const host = `${organization.slug}.localhost:5000`;
    const found = await Promise.all(Array.from({ length: 20 }, () => byHost(host)));
    expect(found.every((each) => each?.id === organization.id)).toBe(true);
    forward(4_999);
    await byHost(host.toUpperCase());
    expect(asked.times).toBe(1);
    forward(1);
    await byHost(host);
    expect(asked.times).toBe(2);
    expect((await byId(organization.id))?.slug).toBe(organization.slug);
  });

  test("remembers hosts that name nobody, and asks nothing for hosts that cannot name anybody", async () => {
    const { byHost, asked, forward } = directory();
    expect(await byHost("nobody-here.localhost")).toBeUndefined();
    expect(await byHost("nobody-here.localhost")).toBeUndefined();
    expect(asked.times).toBe(1);
    for (const host of ["localhost", "a.b.localhost", "example.com", ""]) expect(await byHost(host)).toBeUndefined();
    expect(asked.times).toBe(1);
    const created = unwrap(await createOrganization(deps, { actor, slug: "nobody-here", name: "Somebody" }));
    forward(5_000);
    expect((await byHost("nobody-here.localhost"))?.id).toBe(created.id);
  });

  test("keeps an organization in memory through a flood of hosts that name nobody", async () => {
    const { organization } = await given();
    const { byHost, asked } = directory();
    await byHost(`${organization.slug}.localhost`);
    for (let n = 0; n < 30; n += 1) await byHost(`flood-${n}.localhost`);
    await byHost(`${organization.slug}.localhost`);
    expect(asked.times).toBe(31);
  });

  test("asks no more while every change is told, and forgets the changed organization alone, by host and by id", async () => {
    const [one, two] = [await given(), await given()];
    let toldUntilMs = 0;
    const { byHost, byId, invalidate, asked, forward } = directory({ toldUntilMs: () => toldUntilMs });
    const hosts = [one, two].map(({ organization }) => `${organization.slug}.localhost`);
    const askAll = async () => {
      for (const host of hosts) await byHost(host);
      await byId(one.organization.id);
      await byHost("nobody.localhost");
    };
    await askAll();
    forward(60_000);
    toldUntilMs = 60_000;
    await askAll();
    expect(asked.times).toBe(4);
    unwrap(await updateOrganizationSettings(deps, one.operator, { run: { maxSteps: 3 } }));
    invalidate(one.organization.id);
    expect((await byHost(hosts[0] ?? ""))?.settings.run.maxSteps).toBe(3);
    expect((await byId(one.organization.id))?.settings.run.maxSteps).toBe(3);
    await byHost(hosts[1] ?? "");
    expect(asked.times).toBe(6);
    forward(5_000);
    await askAll();
    expect(asked.times).toBe(10);
  });

  test("forgets on an announcement, and throws while the database is away", async () => {
    const { organization, operator } = await given();
    const { byHost, invalidate } = directory();
    const host = `${organization.slug}.localhost`;
    expect((await byHost(host))?.settings.run.maxSteps).toBe(30);
    const announced: string[] = [];
    const announceChange = async (orgId: string) => void announced.push(orgId);
    unwrap(await updateOrganizationSettings({ ...deps, announceChange }, operator, { run: { maxSteps: 3 } }));
    expect(announced).toEqual([organization.id]);
    invalidate();
    expect((await byHost(host))?.settings.run.maxSteps).toBe(3);

    const away = createOrganizationDirectory({
      db: { unscoped: () => Promise.reject(new Error("gone")) },
      clock: { now: () => 0 },
      baseDomain: "localhost",
    });
    await expect(away.byHost(host)).rejects.toThrow("gone");
  });
});

describe("settings", () => {
  test("changed at once by two people keep both changes, each audited", async () => {
    const { organization, operator } = await given();
    await Promise.all([
      updateOrganizationSettings(deps, operator, { run: { maxSteps: 7 } }),
      updateOrganizationSettings(deps, operator, { run: { maxDepth: 1 } }),
    ]);
    const settings = unwrap(await updateOrganizationSettings(deps, operator, {}));
    expect(settings.run).toMatchObject({ maxSteps: 7, maxDepth: 1 });
    expect((await audited(organization.id)).filter((row) => row.action === "organization:update")).toHaveLength(3);
  });

  test("are left alone by a change that is refused", async () => {
    const { organization, operator } = await given();
    const result = await updateOrganizationSettings(deps, operator, { run: { maxSteps: -1 } });
    expect(result.ok ? "ok" : result.error.code).toBe("invalid_input");
    const refused = await updateOrganizationSettings(deps, nobody(organization.id), { run: { maxSteps: 1 } });
    expect(refused.ok ? "ok" : refused.error.code).toBe("forbidden");
    expect(await audited(organization.id)).toHaveLength(1);
  });
});

describe("settings, read back", () => {
  test("tell what holds and what of it the organization has set, to those who may know", async () => {
    const { organization, operator } = await given();
    unwrap(await updateOrganizationSettings(deps, operator, { run: { maxSteps: 7 } }));
    const { settings, overrides } = unwrap(await getOrganizationSettings(deps, operator));
    expect(settings.run).toMatchObject({ maxSteps: 7, maxDepth: 5 });
    expect(overrides).toEqual({ run: { maxSteps: 7 } });
    const refused = await getOrganizationSettings(deps, nobody(organization.id));
    expect(refused.ok ? "ok" : refused.error.code).toBe("forbidden");
  });
});

describe("people", () => {
  test("exist once per address, whatever its case, and belong to several organizations in different roles", async () => {
    const [one, two] = [await given(), await given()];
    const email = `${newSlug()}@example.com`;
    const users = await Promise.all(
      [email, email.toUpperCase(), ` ${email}`].map((each) => ensureUser(deps, { email: each, name: "A Person" })),
    );
    const user = unwrap(users[0] ?? (await ensureUser(deps, { email, name: "A" })));
    expect(new Set(users.map((each) => unwrap(each).id))).toEqual(new Set([user.id]));
    unwrap(await addMember(deps, one.operator, { userId: user.id, role: "owner" }));
    unwrap(await addMember(deps, one.operator, { userId: user.id, role: "owner" }));
    unwrap(await addMember(deps, two.operator, { userId: user.id, role: "viewer" }));
    const rows = await database.inspect("SELECT org_id, role FROM membership WHERE user_id = $1 ORDER BY role", [
      user.id,
    ]);
    expect(rows).toEqual([
      { org_id: one.organization.id, role: "owner" },
      { org_id: two.organization.id, role: "viewer" },
    ]);
    expect((await audited(one.organization.id)).map((row) => row.action)).toEqual([
      "organization:create",
      "member:add",
    ]);
  });

  test("are added by those who may only, and only when they exist", async () => {
    const { organization, operator } = await given();
    const refused = await addMember(deps, nobody(organization.id), { userId: "user_x", role: "owner" });
    expect(refused.ok ? "ok" : refused.error.code).toBe("forbidden");
    const unknown = await addMember(deps, operator, { userId: "user_x", role: "owner" });
    expect(unknown.ok ? "ok" : unknown.error.code).toBe("user_not_found");
    const invalid = await ensureUser(deps, { email: "nobody", name: "x" });
    expect(invalid.ok ? "ok" : invalid.error.code).toBe("invalid_input");
  });
});
