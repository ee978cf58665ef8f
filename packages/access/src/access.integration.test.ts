import { createOperatorPrincipal, type Principal } from "./principal.ts";
import { newId, unwrap, type Clock } from "@shaman/kernel";
import { testDatabase, type TestDatabase } from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { AccessDeps, KeyChange } from "./access-deps.ts";
import { makeApiKey } from "./api-key-format.ts";
import { createAuthenticator, type AuthenticatorDeps } from "./authenticator.ts";
import { createApiKey, type CreateApiKeyInput } from "./create-api-key.ts";
import { agentResource } from "./grants.ts";
import { listApiKeys } from "./list-api-keys.ts";
import type { Refusal } from "./refusal-log.ts";
import { revokeApiKey } from "./revoke-api-key.ts";
import { rotateApiKey } from "./rotate-api-key.ts";

let database: TestDatabase;

beforeAll(async () => {
  database = await testDatabase();
});
afterAll(() => database.close());

const movableClock = (): Clock & { forward: (ms: number) => void } => {
  let nowMs = Date.now();
  return { now: () => nowMs, forward: (ms) => void (nowMs += ms) };
};

const given = async () => {
  const { orgId } = await database.givenOrg();
  const clock = movableClock();
  const changes: KeyChange[] = [];
  const deps: AccessDeps = {
    db: database.as("web"),
    clock,
    origin: { server: "cli", protocol: "cli" },
    announceKeyChange: async (change) => void changes.push(change),
  };
  const operator = createOperatorPrincipal({ orgId, name: "test" });
  const createKey = async (input: Partial<CreateApiKeyInput> = {}) =>
    unwrap(await createApiKey(deps, operator, { name: "a key", agents: "*", ...input }));
  return { orgId, clock, deps, operator, createKey, changes };
};

/** Counts queries, so that a test can say what costs one. */
const givenAuthenticator = (clock: Clock, more: Partial<AuthenticatorDeps> = {}) => {
  const db = database.as("public");
  const asked = { times: 0 };
  const refusals: Refusal[] = [];
  const authenticator = createAuthenticator({
    db: { ...db, withOrg: (orgId, work) => ((asked.times += 1), db.withOrg(orgId, work)) },
    clock,
    origin: { server: "public" },
    onRefused: (refusal) => refusals.push(refusal),
    ...more,
  });
  const attempt = async (orgId: string, presentedKey: string, ip?: string): Promise<string> => {
    const result = await authenticator.authenticate({ orgId, presentedKey, ip });
    return result.ok ? "ok" : result.error.code;
  };
  return { authenticator, asked, refusals, attempt };
};

const auditOf = (orgId: string) =>
  database.inspect<{ action: string; actor: string; result: string; details: unknown }>(
    "SELECT action, actor, result, details FROM audit_log WHERE org_id = $1 ORDER BY id",
    [orgId],
  );

describe("an API key", () => {
  test("is shown once and stored as a hash only", async () => {
    const { orgId, createKey, deps, operator } = await given();
    const { key, record } = await createKey();
    const dump = await database.inspect<{ row: string }>(
      "SELECT (k::text || (SELECT string_agg(a::text, '') FROM audit_log a WHERE a.org_id = k.org_id)) AS row FROM api_key k WHERE org_id = $1",
      [orgId],
    );
    expect(dump).toHaveLength(1);
    expect(dump[0]?.row).not.toContain(key.reveal().slice(35));
    const page = unwrap(await listApiKeys(deps, operator));
    expect(page.keys).toEqual([record]);
    expect(JSON.stringify(page)).not.toContain(key.reveal().slice(35));
  });

  test("authenticates as its owner and may execute the agents it was given, no others", async () => {
    const { orgId, createKey, clock } = await given();
    const { key, record } = await createKey({ agents: ["Order", "Tax_Desk"], ratePerSecond: 0, priority: 5 });
    const { authenticator } = givenAuthenticator(clock);
    const principal = unwrap(await authenticator.authenticate({ orgId, presentedKey: key.reveal(), ip: undefined }));
    expect(principal).toMatchObject({
      orgId,
      id: `key:${record.id}`,
      apiKeyId: record.id,
      ratePerSecond: 0,
      priority: 5,
    });
    expect(principal.can("agent:execute", agentResource("Order"))).toBe(true);
    expect(principal.can("agent:execute", agentResource("Tax_Desk"))).toBe(true);
    for (const other of ["Orders", "order", "TaxDesk", "Tax-Desk"]) {
      expect(principal.can("agent:execute", agentResource(other))).toBe(false);
    }
    expect(principal.can("apiKey:create", "/apiKeys/")).toBe(false);
  });

  test("made for a user acts as that user", async () => {
    const { orgId, createKey, clock } = await given();
    const userId = `user_${"0".repeat(26)}`;
    const { key } = await createKey({ ownerId: `user:${userId}` });
    const { authenticator } = givenAuthenticator(clock);
    const principal = unwrap(await authenticator.authenticate({ orgId, presentedKey: key.reveal(), ip: undefined }));
    expect(principal).toMatchObject({ id: `user:${userId}`, userId });
  });

  test("of another organization is refused exactly like nonsense", async () => {
    const [acme, techcorp] = [await given(), await given()];
    const foreign = (await techcorp.createKey()).key.reveal();
    const { authenticator } = givenAuthenticator(acme.clock);
    const answers = [];
    for (const presentedKey of [foreign, "nonsense", ""]) {
      answers.push(await authenticator.authenticate({ orgId: acme.orgId, presentedKey, ip: undefined }));
    }
    const shown = answers.map((answer) =>
      answer.ok ? "ok" : [answer.error.code, answer.error.message, answer.error.details],
    );
    expect(new Set(shown.map((each) => JSON.stringify(each))).size).toBe(1);
    expect(shown[0]?.[0]).toBe("unauthenticated");
  });

  test("with the right id and another secret is refused, also while the right one is remembered", async () => {
    const { orgId, createKey, clock } = await given();
    const { key, record } = await createKey();
    const other = await createKey();
    const forged = makeApiKey({ keyId: record.id, mode: "live" }).reveal();
    const { attempt, asked, refusals } = givenAuthenticator(clock);
    expect(await attempt(orgId, key.reveal())).toBe("ok");
    expect(await attempt(orgId, forged)).toBe("unauthenticated");
    expect(await attempt(orgId, key.reveal())).toBe("ok");
    expect(asked.times).toBe(1);
    expect(refusals).toMatchObject([{ reason: "wrong_secret", keyId: record.id }]);
    expect(await attempt(orgId, other.key.reveal())).toBe("ok");
  });

  test("expires at its time, also while it is remembered", async () => {
    const { orgId, createKey, clock } = await given();
    const { key } = await createKey({ expiresAt: new Date(clock.now() + 1_000) });
    const { attempt } = givenAuthenticator(clock);
    expect(await attempt(orgId, key.reveal())).toBe("ok");
    clock.forward(999);
    expect(await attempt(orgId, key.reveal())).toBe("ok");
    clock.forward(1);
    expect(await attempt(orgId, key.reveal())).toBe("unauthenticated");
  });

  test("with an IP list is good from those addresses only, checked on every call", async () => {
    const { orgId, createKey, clock } = await given();
    const { key } = await createKey({ allowedIps: ["10.0.0.0/8", "2001:db8::/32"] });
    const { attempt } = givenAuthenticator(clock);
    expect(await attempt(orgId, key.reveal(), "10.1.2.3")).toBe("ok");
    expect(await attempt(orgId, key.reveal(), "2001:db8::9")).toBe("ok");
    expect(await attempt(orgId, key.reveal(), "11.1.2.3")).toBe("unauthenticated");
    expect(await attempt(orgId, key.reveal())).toBe("unauthenticated");
  });

  test("that was revoked is refused within 5 seconds without any event, and at once with one", async () => {
    const { orgId, createKey, clock, deps, operator, changes } = await given();
    const [quiet, told] = [await createKey(), await createKey()];
    const { authenticator, attempt } = givenAuthenticator(clock);
    for (const each of [quiet, told]) expect(await attempt(orgId, each.key.reveal())).toBe("ok");
    for (const each of [quiet, told]) unwrap(await revokeApiKey(deps, operator, { keyId: each.record.id }));
    expect(changes).toEqual([quiet, told].map((each) => ({ orgId, keyId: each.record.id })));
    authenticator.invalidateKey({ orgId, keyId: told.record.id });
    expect(await attempt(orgId, told.key.reveal())).toBe("unauthenticated");
    clock.forward(5_000);
    expect(await attempt(orgId, quiet.key.reveal())).toBe("unauthenticated");
  });

  test("is remembered while every change is told, and for 5 seconds after that ends: then it is asked for, or refused", async () => {
    const { orgId, createKey, clock, deps, operator } = await given();
    const { key, record } = await createKey();
    const db = database.as("public");
    let away = false;
    let toldUntilMs = clock.now();
    const asked = { times: 0 };
    const { authenticator, attempt } = givenAuthenticator(clock, {
      toldUntilMs: () => toldUntilMs,
      db: {
        ...db,
        withOrg: (org, work) => {
          asked.times += 1;
          return away ? Promise.reject(new Error("gone")) : db.withOrg(org, work);
        },
      },
    });
    for (let seconds = 0; seconds < 240; seconds += 1) {
      expect(await attempt(orgId, key.reveal())).toBe("ok");
      clock.forward(1_000);
      toldUntilMs = clock.now();
    }
    expect(asked.times).toBe(1);

    // PostgreSQL is away: nothing is told, and nobody knows whether the key was revoked.
    away = true;
    clock.forward(4_999);
    expect(await attempt(orgId, key.reveal())).toBe("ok");
    clock.forward(1);
    await expect(attempt(orgId, key.reveal())).rejects.toThrow("gone");
    away = false;
    unwrap(await revokeApiKey(deps, operator, { keyId: record.id }));
    expect(await attempt(orgId, key.reveal())).toBe("unauthenticated");

    // What changes without being told, as by a restored table, is believed for minutes and not for ever.
    const other = await createKey();
    expect(await attempt(orgId, other.key.reveal())).toBe("ok");
    unwrap(await revokeApiKey(deps, operator, { keyId: other.record.id }));
    clock.forward(5 * 60_000);
    toldUntilMs = clock.now();
    expect(await attempt(orgId, other.key.reveal())).toBe("unauthenticated");
    authenticator.invalidateAll();
  });

  test("that is being looked up while it is revoked is not remembered as good", async () => {
    const { orgId, createKey, clock, deps, operator } = await given();
    const { key, record } = await createKey();
    const db = database.as("public");
    const gate = Promise.withResolvers<undefined>();
    const read = Promise.withResolvers<undefined>();
    let first = true;
    const { authenticator, attempt } = givenAuthenticator(clock, {
      db: {
        ...db,
        withOrg: async (org, work) => {
          const rows = await db.withOrg(org, work);
          if (first) {
            first = false;
            read.resolve(undefined);
            await gate.promise;
          }
          return rows;
        },
      },
    });
    const early = attempt(orgId, key.reveal());
    await read.promise;
    unwrap(await revokeApiKey(deps, operator, { keyId: record.id }));
    authenticator.invalidateKey({ orgId, keyId: record.id });
    expect(await attempt(orgId, key.reveal())).toBe("unauthenticated");
    gate.resolve(undefined);
    await early;
    expect(await attempt(orgId, key.reveal())).toBe("unauthenticated");
  });
});

describe("the authenticator", () => {
  test("asks the database once for a key that many callers present at once, and not again while it remembers", async () => {
    const { orgId, createKey, clock } = await given();
    const { key } = await createKey();
    const { attempt, asked } = givenAuthenticator(clock);
    await Promise.all(Array.from({ length: 50 }, () => attempt(orgId, key.reveal())));
    clock.forward(4_999);
    await attempt(orgId, key.reveal());
    expect(asked.times).toBe(1);
    clock.forward(1);
    await attempt(orgId, key.reveal());
    expect(asked.times).toBe(2);
  });

  test("asks nothing for malformed keys, once for an unknown id, and lets floods of those push no key out", async () => {
    const { orgId, createKey, clock } = await given();
    const { key } = await createKey();
    const { attempt, asked } = givenAuthenticator(clock, { cacheEntries: 10 });
    for (const text of ["", "sk_live_x", key.reveal().slice(1), `${key.reveal()}x`]) await attempt(orgId, text);
    expect(asked.times).toBe(0);
    await attempt(orgId, key.reveal());
    const unknown = makeApiKey({ keyId: newId("key"), mode: "live" }).reveal();
    await attempt(orgId, unknown);
    await attempt(orgId, unknown);
    expect(asked.times).toBe(2);
    for (let n = 0; n < 30; n += 1) await attempt(orgId, makeApiKey({ keyId: newId("key"), mode: "live" }).reveal());
    await attempt(orgId, key.reveal());
    expect(asked.times).toBe(32);
  });

  test("lets nobody in when the database cannot be asked, and says that it is not the key's fault", async () => {
    const { orgId, createKey, clock } = await given();
    const { key } = await createKey();
    const db = database.as("public");
    let away = false;
    const { authenticator, attempt } = givenAuthenticator(clock, {
      db: { ...db, withOrg: (org, work) => (away ? Promise.reject(new Error("gone")) : db.withOrg(org, work)) },
    });
    expect(await attempt(orgId, key.reveal())).toBe("ok");
    away = true;
    clock.forward(5_000);
    await expect(authenticator.authenticate({ orgId, presentedKey: key.reveal(), ip: undefined })).rejects.toThrow(
      "gone",
    );
    away = false;
    expect(await attempt(orgId, key.reveal())).toBe("ok");
  });

  test("notes the last use of a key later and in one go, never backwards, and audits refused uses counted together", async () => {
    const { orgId, createKey, clock, deps, operator } = await given();
    const [used, idle] = [await createKey(), await createKey()];
    const late = givenAuthenticator(clock);
    const startMs = clock.now();
    await late.attempt(orgId, used.key.reveal());
    clock.forward(60_000);
    const early = givenAuthenticator(clock);
    await early.attempt(orgId, used.key.reveal());
    unwrap(await revokeApiKey(deps, operator, { keyId: idle.record.id }));
    for (let n = 0; n < 3; n += 1) await early.attempt(orgId, idle.key.reveal(), "10.0.0.9");

    await early.authenticator.flush();
    await late.authenticator.flush();
    await early.authenticator.flush();
    const keys = unwrap(await listApiKeys(deps, operator)).keys;
    expect(keys.find((each) => each.id === used.record.id)?.lastUsedAt?.getTime()).toBe(startMs + 60_000);
    expect(keys.find((each) => each.id === idle.record.id)?.lastUsedAt).toBeNull();
    expect((await auditOf(orgId)).at(-1)).toMatchObject({
      action: "apiKey:use",
      actor: `key:${idle.record.id}`,
      result: "denied",
      details: { reason: "revoked", times: 3 },
    });
  });

  test("audits what good keys were not permitted to do, counted together", async () => {
    const { orgId, createKey, clock } = await given();
    const { record } = await createKey({ agents: ["A"] });
    const { authenticator } = givenAuthenticator(clock);
    const act = { orgId, keyId: record.id, ip: "10.0.0.9", action: "agent:execute", resource: agentResource("B") };
    for (let n = 0; n < 3; n += 1) authenticator.noteForbidden(act);
    await authenticator.flushRefusals();
    await authenticator.flushRefusals();
    expect((await auditOf(orgId)).filter(({ result }) => result === "denied")).toEqual([
      {
        action: "agent:execute",
        actor: `key:${record.id}`,
        result: "denied",
        details: { reason: "forbidden", times: 3 },
      },
    ]);
  });

  test("keeps what it could not write about last uses for the next time", async () => {
    const { orgId, createKey, clock, deps, operator } = await given();
    const { key } = await createKey();
    const db = database.as("public");
    let away = false;
    const { authenticator, attempt } = givenAuthenticator(clock, {
      db: { ...db, batch: (...input) => (away ? Promise.reject(new Error("gone")) : db.batch(...input)) },
    });
    await attempt(orgId, key.reveal());
    away = true;
    await expect(authenticator.flush()).rejects.toThrow("last used");
    away = false;
    await authenticator.flush();
    expect(unwrap(await listApiKeys(deps, operator)).keys[0]?.lastUsedAt).not.toBeNull();
  });
});

describe("rotating a key", () => {
  test("gives a new secret with the same owner, agents and limits, and lets the old one go on for the grace", async () => {
    const { orgId, createKey, clock, deps, operator } = await given();
    const old = await createKey({
      agents: ["A", "B"],
      ratePerSecond: 7,
      priority: 2,
      mode: "test",
      allowedIps: ["10.0.0.0/8"],
    });
    const oldKeyWorksUntil = new Date(clock.now() + 10_000);
    const rotated = unwrap(await rotateApiKey(deps, operator, { keyId: old.record.id, oldKeyWorksUntil }));
    expect(rotated.record).toMatchObject({
      ownerId: old.record.ownerId,
      agents: ["A", "B"],
      ratePerSecond: 7,
      priority: 2,
      allowedIps: ["10.0.0.0/8"],
    });
    expect(rotated.key.reveal().startsWith("sk_test_")).toBe(true);
    const { authenticator, attempt } = givenAuthenticator(clock);
    const principals: Principal[] = [];
    for (const each of [old, rotated]) {
      principals.push(
        unwrap(await authenticator.authenticate({ orgId, presentedKey: each.key.reveal(), ip: "10.0.0.1" })),
      );
    }
    expect(principals[0]?.id).toBe(principals[1]?.id);
    clock.forward(10_000);
    expect(await attempt(orgId, old.key.reveal(), "10.0.0.1")).toBe("unauthenticated");
    expect(await attempt(orgId, rotated.key.reveal(), "10.0.0.1")).toBe("ok");
    const again = unwrap(await rotateApiKey(deps, operator, { keyId: rotated.record.id }));
    expect(again.record.ownerId).toBe(old.record.ownerId);
  });

  test("never lengthens the old key's life, and stops it now without a grace", async () => {
    const { createKey, clock, deps, operator } = await given();
    const short = await createKey({ expiresAt: new Date(clock.now() + 1_000) });
    unwrap(
      await rotateApiKey(deps, operator, { keyId: short.record.id, oldKeyWorksUntil: new Date(clock.now() + 9_000) }),
    );
    const plain = await createKey();
    unwrap(await rotateApiKey(deps, operator, { keyId: plain.record.id }));
    const keys = unwrap(await listApiKeys(deps, operator)).keys;
    const find = (id: string) => keys.find((each) => each.id === id);
    expect(find(short.record.id)?.expiresAt?.getTime()).toBe(clock.now() + 1_000);
    expect(find(plain.record.id)?.state).toBe("expired");
    expect(find(plain.record.id)?.replacedBy).toMatch(/^key_/);
  });

  test("is refused for a key that is revoked, expired or replaced, and for one that is not there", async () => {
    const { createKey, clock, deps, operator } = await given();
    const [revoked, replaced] = [await createKey(), await createKey()];
    unwrap(await revokeApiKey(deps, operator, { keyId: revoked.record.id }));
    const until = new Date(clock.now() + 1_000);
    unwrap(await rotateApiKey(deps, operator, { keyId: replaced.record.id, oldKeyWorksUntil: until }));
    const codes = [];
    for (const keyId of [revoked.record.id, replaced.record.id, "key_none"]) {
      const result = await rotateApiKey(deps, operator, { keyId });
      codes.push(result.ok ? "ok" : result.error.code);
    }
    expect(codes).toEqual(["api_key_not_active", "api_key_not_active", "api_key_not_found"]);
  });

  test("twice at once makes one new key", async () => {
    const { createKey, deps, operator } = await given();
    const { record } = await createKey();
    const results = await Promise.all(
      Array.from({ length: 5 }, () => rotateApiKey(deps, operator, { keyId: record.id })),
    );
    expect(results.filter((result) => result.ok)).toHaveLength(1);
  });
});

describe("managing keys", () => {
  test("writes every act into the audit log together with it", async () => {
    const { orgId, createKey, deps, operator } = await given();
    const { record } = await createKey();
    unwrap(await rotateApiKey(deps, operator, { keyId: record.id }));
    unwrap(await revokeApiKey(deps, operator, { keyId: record.id }));
    unwrap(await revokeApiKey(deps, operator, { keyId: record.id }));
    const rows = await auditOf(orgId);
    expect(rows.map((row) => row.action)).toEqual(["apiKey:create", "apiKey:rotate", "apiKey:revoke"]);
    expect(new Set(rows.map((row) => row.actor))).toEqual(new Set(["operator:test"]));
  });

  test("asks for the permission before anything else", async () => {
    const { deps, orgId } = await given();
    const nobody: Principal = { orgId, id: "user:x", apiKeyId: null, ratePerSecond: null, can: () => false };
    const results = [
      await createApiKey(deps, nobody, { name: "", agents: [] }),
      await listApiKeys(deps, nobody),
      await rotateApiKey(deps, nobody, { keyId: "key_x" }),
      await revokeApiKey(deps, nobody, { keyId: "key_x" }),
    ];
    expect(results.map((result) => (result.ok ? "ok" : result.error.code))).toEqual(Array(4).fill("forbidden"));
  });

  test("lets nobody give away agents they may not execute themselves, or act for another owner", async () => {
    const { deps, orgId } = await given();
    const clerk: Principal = {
      orgId,
      id: `user:user_${"0".repeat(26)}`,
      apiKeyId: null,
      ratePerSecond: null,
      can: (action, resource) =>
        action === "apiKey:create" || (action === "agent:execute" && resource === "/agents/A/"),
    };
    const attempt = async (input: Partial<CreateApiKeyInput>) => {
      const result = await createApiKey(deps, clerk, { name: "k", agents: ["A"], ...input });
      return result.ok ? "ok" : result.error.code;
    };
    expect(await attempt({})).toBe("ok");
    expect(await attempt({ ownerId: clerk.id })).toBe("ok");
    expect(await attempt({ agents: ["A", "B"] })).toBe("forbidden");
    expect(await attempt({ agents: "*" })).toBe("forbidden");
    expect(await attempt({ ownerId: `user:user_${"1".repeat(26)}` })).toBe("forbidden");
  });

  test("refuses input that makes no sense, in words", async () => {
    const { deps, operator, clock } = await given();
    const bad: Partial<CreateApiKeyInput>[] = [
      { name: " " },
      { agents: [] },
      { agents: ["../x"] },
      { allowedIps: ["10.0.0.0/40"] },
      { priority: 6 },
      { ratePerSecond: -1 },
      { expiresAt: new Date(clock.now() - 1) },
      { ownerId: "operator:me" },
    ];
    for (const input of bad) {
      const result = await createApiKey(deps, operator, { name: "k", agents: "*", ...input });
      expect(result.ok ? "ok" : result.error.code).toBe("invalid_input");
    }
  });

  test("shows and touches no key of another organization", async () => {
    const [mine, theirs] = [await given(), await given()];
    const { record } = await theirs.createKey();
    expect(unwrap(await listApiKeys(mine.deps, mine.operator)).keys).toEqual([]);
    for (const act of [rotateApiKey, revokeApiKey]) {
      const result = await act(mine.deps, mine.operator, { keyId: record.id });
      expect(result.ok ? "ok" : result.error.code).toBe("api_key_not_found");
    }
  });

  test("pages through every key once", async () => {
    const { createKey, deps, operator, clock } = await given();
    for (let n = 0; n < 7; n += 1) {
      clock.forward(1);
      await createKey();
    }
    const ids: string[] = [];
    let after: string | undefined;
    for (;;) {
      const page = unwrap(await listApiKeys(deps, operator, { first: 3, ...(after !== undefined && { after }) }));
      ids.push(...page.keys.map((key) => key.id));
      if (page.endCursor === null) break;
      after = page.endCursor;
    }
    expect(ids).toEqual([...new Set(ids)].toSorted().toReversed());
    expect(ids).toHaveLength(7);
  });
});
