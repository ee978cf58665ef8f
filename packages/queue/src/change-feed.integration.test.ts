import type { Db } from "@shaman/db";
import { newId, systemClock } from "@shaman/kernel";
import { testDatabase, type TestDatabase } from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createChangeFeed, deleteOldChanges, type Change } from "./change-feed.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await testDatabase();
});
afterAll(() => database.close());

/** A feed that looks only when asked to, and what it told. */
const givenFeed = async (more: { db?: Pick<Db, "unscoped">; clock?: { now: () => number } } = {}) => {
  const told: Change[] = [];
  const unknown = { times: 0 };
  const feed = createChangeFeed({
    db: database.as("public"),
    clock: systemClock,
    onError: () => undefined,
    everyMs: 3_600_000,
    ...more,
  });
  feed.onChange((change) => told.push(change));
  feed.onUnknown(() => (unknown.times += 1));
  await feed.look();
  const since = async (): Promise<Change[]> => {
    told.length = 0;
    await feed.look();
    return [...told];
  };
  return { feed, since, unknown };
};

/**
 * The same after a look more: a transaction that is open somewhere else in the same PostgreSQL has a new feed told, once, of
 * what was before it.
 */
const givenQuietFeed = async () => {
  const given = await givenFeed();
  await given.since();
  return given;
};

/** An organization with a key, which the role of the management process makes and revokes as row-level security lets it. */
const given = async () => {
  const { orgId } = await database.givenOrg();
  const keyId = newId("key");
  await database.as("web").withOrg(orgId, async (tx) => {
    await tx.query({
      text: `INSERT INTO api_key (org_id, id, name, prefix, secret_hash, owner_id, created_by)
        VALUES ($1, $2::text, 'a key', 'sk_test', decode(md5($2::text), 'hex'), 'key:' || $2::text, 'test')`,
      values: [orgId, keyId],
    });
    await tx.query({
      text: `INSERT INTO "grant" (org_id, id, subject, action, resource)
        SELECT $1, agent, 'key:' || $2::text, 'agent:execute', agent FROM unnest('{A,B,C}'::text[]) AS g (agent)`,
      values: [orgId, keyId],
    });
  });
  const revoke = () =>
    database
      .as("web")
      .withOrg(orgId, (tx) =>
        tx.query({ text: "UPDATE api_key SET revoked_at = now() WHERE org_id = $1", values: [orgId] }),
      );
  return { orgId, keyId, revoke };
};

const insertRepository = `INSERT INTO repository (org_id, id, name, url, branch) VALUES ($1, 'r1', 'desk', 'https://x/', 'main')`;

describe("what processes remember", () => {
  test("is told when it changes, once, though nobody announced it", async () => {
    const { orgId, keyId, revoke } = await given();
    const { since } = await givenQuietFeed();
    await revoke();
    expect(await since()).toEqual([{ what: "key", orgId, id: keyId }]);
    expect(await since()).toEqual([]);
  });

  test.each<[string, string, string]>([
    ["a key's expiry", "UPDATE api_key SET expires_at = now() WHERE org_id = $1", "key"],
    ["a key's addresses", "UPDATE api_key SET allowed_ips = '{10.0.0.1}' WHERE org_id = $1", "key"],
    ["a permission taken from a key", `DELETE FROM "grant" WHERE org_id = $1 AND resource = 'A'`, "key"],
    ["a deleted key", "DELETE FROM api_key WHERE org_id = $1", "key"],
    ["an organization's settings", `UPDATE organization SET settings = '{"a": 1}' WHERE id = $1`, "organization"],
    ["a commit that became live", "UPDATE repository SET live_commit = 'c2' WHERE org_id = $1", "agents"],
    ["a repository that was removed", "DELETE FROM repository WHERE org_id = $1", "agents"],
  ])("is told for %s, by whatever statement", async (_, statement, what) => {
    const { orgId, keyId } = await given();
    await database.inspect(insertRepository, [orgId]);
    const { since } = await givenQuietFeed();
    await database.inspect(statement, [orgId]);
    const id = { key: keyId, organization: orgId, agents: "r1" }[what];
    expect(await since()).toEqual([{ what, orgId, id }]);
  });

  test("is told of a new organization, whose host may be remembered as nobody's", async () => {
    const { since } = await givenQuietFeed();
    const { orgId } = await database.givenOrg();
    expect(await since()).toEqual([{ what: "organization", orgId, id: orgId }]);
  });

  test("is not told of what nobody remembers: last use of keys, leases of syncs", async () => {
    const { orgId } = await given();
    await database.inspect(insertRepository, [orgId]);
    const { since } = await givenQuietFeed();
    await database.inspect("UPDATE api_key SET last_used_at = now() WHERE org_id = $1", [orgId]);
    await database.inspect("UPDATE repository SET sync_token = 't', attempted_at = now() WHERE org_id = $1", [orgId]);
    expect(await since()).toEqual([]);
  });

  test("is told though its transaction began before a look and ended after it, and another's did not wait", async () => {
    const [early, late] = [await given(), await given()];
    const { since } = await givenQuietFeed();
    const [begun, mayEnd] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const open = database.as("web").withOrg(early.orgId, async (tx) => {
      await tx.query({ text: "UPDATE api_key SET revoked_at = now() WHERE org_id = $1", values: [early.orgId] });
      begun.resolve();
      await mayEnd.promise;
    });
    await begun.promise;
    await late.revoke();
    expect(await since()).toEqual([{ what: "key", orgId: late.orgId, id: late.keyId }]);
    expect(await since()).toEqual([]);
    mayEnd.resolve();
    await open;
    expect(await since()).toEqual([{ what: "key", orgId: early.orgId, id: early.keyId }]);
    expect(await since()).toEqual([]);
  });

  test("is unknown at the first look, after very many changes, and after a day's sleep", async () => {
    const { orgId } = await given();
    let aheadMs = 0;
    const { since, unknown } = await givenFeed({ clock: { now: () => Date.now() + aheadMs } });
    expect(unknown.times).toBe(1);
    await since();
    expect(unknown.times).toBe(1);
    await database.inspect(
      `INSERT INTO "grant" (org_id, id, subject, action, resource)
        SELECT $1, 'g' || n, 'key:k' || n, 'agent:execute', '/agents/X/' FROM generate_series(1, 2001) AS n`,
      [orgId],
    );
    await since();
    expect(unknown.times).toBe(2);
    expect(await since()).toEqual([]);
    aheadMs = 24 * 3_600_000;
    await since();
    expect(unknown.times).toBe(3);
  });
});

describe("the moment until which all was told", () => {
  test("is when the last answered question was asked, and stands still while PostgreSQL does not answer", async () => {
    let nowMs = 100_000;
    let away = false;
    const db = database.as("public");
    const unscoped: Db["unscoped"] = async (work) => {
      if (away) throw new Error("gone");
      const value = await db.unscoped(work);
      nowMs += 700;
      return value;
    };
    const { feed } = await givenFeed({ db: { unscoped }, clock: { now: () => nowMs } });
    expect(feed.toldUntilMs()).toBe(100_000);
    await feed.look();
    expect(feed.toldUntilMs()).toBe(100_700);
    away = true;
    await expect(feed.look()).rejects.toThrow("gone");
    expect(feed.toldUntilMs()).toBe(100_700);
    away = false;
    await feed.look();
    expect(feed.toldUntilMs()).toBe(101_400);
  });

  test("moves by itself", async () => {
    const asked: number[] = [];
    const looked = Promise.withResolvers<void>();
    const db = database.as("public");
    const unscoped: Db["unscoped"] = (work) => {
      if (asked.push(1) === 3) looked.resolve();
      return db.unscoped(work);
    };
    const feed = createChangeFeed({ db: { unscoped }, clock: systemClock, onError: () => undefined, everyMs: 1 });
    await looked.promise;
    feed.close();
  });
});

test("changes are deleted when every process has seen them long ago", async () => {
  const { orgId } = await given();
  await database.inspect("UPDATE cache_change SET at = now() - interval '25 hours' WHERE org_id = $1", [orgId]);
  const fresh = await given();
  await deleteOldChanges({ db: database.as("worker") });
  const left = await database.inspect("SELECT DISTINCT org_id FROM cache_change WHERE org_id = ANY ($1)", [
    [orgId, fresh.orgId],
  ]);
  expect(left).toEqual([{ org_id: fresh.orgId }]);
});
