import { randomBytes } from "node:crypto";
import { createOperatorPrincipal, type Principal } from "@shaman/access";
import { Secret, unwrap } from "@shaman/kernel";
import { createOutbound, type Outbound } from "@shaman/outbound";
import { open, parseSecretKeys, secretIdentity } from "@shaman/secrets";
import { testDatabase, type TestDatabase } from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  listModelCredentials,
  removeModelCredential,
  setModelCredential,
  type ModelCredentialDeps,
} from "./model-credentials.ts";

let database: TestDatabase;
let outbound: Outbound;
const keys = parseSecretKeys(`test:${randomBytes(32).toString("base64url")}`);
if (!keys.ok) throw new Error(keys.error);
const secretKeys = keys.value;

beforeAll(async () => {
  database = await testDatabase();
  outbound = createOutbound({
    allowLoopback: false,
    mapLocalhost: false,
    resolve: async () => ["93.184.216.34"],
  });
});
afterAll(async () => {
  await outbound.close();
  await database.close();
});

const given = async () => {
  const { orgId } = await database.givenOrg();
  const deps: ModelCredentialDeps = {
    db: database.as("web"),
    origin: { server: "cli" },
    secretKeys,
    checkUrl: outbound.checkUrl,
  };
  return { orgId, deps, operator: createOperatorPrincipal({ orgId, name: "test" }) };
};

type SecretRow = { id: string; origin: string; sealed: string };
const secretsOf = (orgId: string) =>
  database.inspect<SecretRow>("SELECT id, origin, sealed FROM secret WHERE org_id = $1", [orgId]);

describe("a model provider's key", () => {
  test("is stored sealed to its row and bound to the provider's origin, and is shown nowhere", async () => {
    const { orgId, deps, operator } = await given();
    const key = new Secret("sk-a-provider-key");
    const set = unwrap(await setModelCredential(deps, operator, { provider: "openai", kind: "openai", key }));
    expect(set).toMatchObject({ provider: "openai", kind: "openai", baseUrl: null, hasKey: true });
    const [secret] = await secretsOf(orgId);
    expect(secret?.origin).toBe("https://api.openai.com");
    const opened = open(secretKeys, {
      sealed: secret?.sealed ?? "",
      identity: secretIdentity({ orgId, secretId: secret?.id ?? "" }),
    });
    expect(unwrap(opened).reveal()).toBe("sk-a-provider-key");

    const listed = unwrap(await listModelCredentials(deps, operator));
    const audit = await database.inspect("SELECT * FROM audit_log WHERE org_id = $1", [orgId]);
    expect(audit).toHaveLength(1);
    expect(JSON.stringify([set, listed, audit, secret])).not.toContain("sk-a-provider-key");
  });

  test("goes away when it is replaced or its provider is removed", async () => {
    const { orgId, deps, operator } = await given();
    const baseUrl = "https://models.example.com/v1";
    const input = { provider: "own", kind: "openai-compatible" as const, baseUrl };
    unwrap(await setModelCredential(deps, operator, { ...input, key: new Secret("first") }));
    const [first] = await secretsOf(orgId);
    unwrap(await setModelCredential(deps, operator, { ...input, key: new Secret("second") }));
    const rest = await secretsOf(orgId);
    expect(rest).toHaveLength(1);
    expect(rest[0]?.id).not.toBe(first?.id);
    expect(rest[0]?.origin).toBe("https://models.example.com");
    unwrap(await setModelCredential(deps, operator, input));
    expect(await secretsOf(orgId)).toEqual([]);
    unwrap(await removeModelCredential(deps, operator, { provider: "own" }));
    expect(unwrap(await listModelCredentials(deps, operator))).toEqual([]);
    const again = await removeModelCredential(deps, operator, { provider: "own" });
    expect(again.ok ? "ok" : again.error.code).toBe("model_provider_not_found");
  });

  test("is not taken for an address that must not be called, a kind without one, or a name that makes no sense", async () => {
    const { orgId, deps, operator } = await given();
    const attempt = async (input: Parameters<typeof setModelCredential>[2]) => {
      const result = await setModelCredential(deps, operator, input);
      return result.ok ? "ok" : result.error.code;
    };
    const kind = "openai-compatible" as const;
    expect(await attempt({ provider: "own", kind, baseUrl: "http://169.254.169.254/v1" })).toBe("outbound_refused");
    expect(await attempt({ provider: "own", kind, baseUrl: "https://127.0.0.1/v1" })).toBe("outbound_refused");
    expect(await attempt({ provider: "own", kind })).toBe("invalid_input");
    expect(await attempt({ provider: "a/b", kind: "openai" })).toBe("invalid_input");
    expect(await attempt({ provider: "scripted", kind: "openai" })).toBe("invalid_input");
    expect(await attempt({ provider: "openai", kind: "openai", key: new Secret("two\nlines") })).toBe("invalid_input");
    expect(await secretsOf(orgId)).toEqual([]);
  });

  test("is for those who may only, and for one organization", async () => {
    const [mine, theirs] = [await given(), await given()];
    unwrap(await setModelCredential(theirs.deps, theirs.operator, { provider: "openai", kind: "openai" }));
    expect(unwrap(await listModelCredentials(mine.deps, mine.operator))).toEqual([]);
    const nobody: Principal = {
      orgId: mine.orgId,
      id: "user:x",
      apiKeyId: null,
      ratePerSecond: null,
      can: () => false,
    };
    for (const result of [
      await setModelCredential(mine.deps, nobody, { provider: "openai", kind: "openai" }),
      await listModelCredentials(mine.deps, nobody),
      await removeModelCredential(mine.deps, nobody, { provider: "openai" }),
    ]) {
      expect(result.ok ? "ok" : result.error.code).toBe("forbidden");
    }
  });
});
