import { randomBytes } from "node:crypto";

import { newId, Secret } from "@shaman/kernel";
import { createOutbound } from "@shaman/outbound";
import { parseSecretKeys, seal, secretIdentity, type SecretKeys } from "@shaman/secrets";
import { startModelServer, testDatabase, type TestDatabase } from "@shaman/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";
import { z } from "zod";

import type { ModelEvent } from "./model-port.ts";
import { resolveModel, resolveModels, type ModelReference, type ResolveModelDeps } from "./resolve-model.ts";

const newKeys = (): SecretKeys => {
  const parsed = parseSecretKeys(`a:${randomBytes(32).toString("base64url")}`);
  if (!parsed.ok) throw new Error(parsed.error);
  return parsed.value;
};

const secretKeys = newKeys();
const outbound = createOutbound({ allowLoopback: true, mapLocalhost: true });
let database: TestDatabase;

beforeAll(async () => {
  database = await testDatabase();
});
afterAll(async () => {
  await outbound.close();
  await database.close();
});

const deps = (): ResolveModelDeps => ({ db: database.as("internal"), secretKeys, outbound });

type Stored = {
  readonly provider: string;
  readonly kind: string;
  readonly baseUrl?: string;
  readonly key?: string;
  readonly origin?: string;
  readonly sealedFor?: string;
};

const store = async (orgId: string, stored: Stored): Promise<void> => {
  const secretId = stored.key === undefined ? null : newId("secret");
  if (stored.key !== undefined && secretId !== null) {
    const identity = secretIdentity({ orgId: stored.sealedFor ?? orgId, secretId });
    await database.inspect("INSERT INTO secret (org_id, id, name, origin, sealed) VALUES ($1, $2, $3, $4, $5)", [
      orgId,
      secretId,
      `model ${stored.provider}`,
      stored.origin ?? new URL(stored.baseUrl ?? "https://api.openai.com").origin,
      seal(secretKeys, { plaintext: new Secret(stored.key), identity }),
    ]);
  }
  await database.inspect(
    "INSERT INTO model_credential (org_id, provider, kind, base_url, secret_id) VALUES ($1, $2, $3, $4, $5)",
    [orgId, stored.provider, stored.kind, stored.baseUrl ?? null, secretId],
  );
};

const codeOf = async (reference: ModelReference): Promise<string> => {
  const resolved = await resolveModel(deps(), reference);
  return resolved.ok ? "ok" : resolved.error.code;
};

test("a provider is called at its address with the organization's own key, and with no other's", async () => {
  const server = await startModelServer({ wire: "openai", replies: [{ text: ["hi"] }, { text: ["hi"] }] });
  for (const key of ["sk-first", "sk-second"]) {
    const { orgId } = await database.givenOrg();
    await store(orgId, { provider: "vendor", kind: "openai-compatible", baseUrl: server.baseUrl, key });
    const resolved = await resolveModel(deps(), { orgId, model: "vendor/family/model" });
    if (!resolved.ok) throw resolved.error;
    const events: ModelEvent[] = [];
    for await (const event of resolved.value.stream({
      model: "vendor/family/model",
      messages: [{ role: "user", text: "hello" }],
      tools: [],
      turn: 1,
      messageId: "m",
      signal: new AbortController().signal,
    })) {
      events.push(event);
    }
    expect(events.at(-1)).toMatchObject({ type: "done", text: "hi" });
  }
  expect(server.requests.map((request) => request.headers.authorization)).toEqual([
    "Bearer sk-first",
    "Bearer sk-second",
  ]);
  expect(server.requests[0]?.body).toMatchObject({ model: "family/model" });
  await server.close();
});

test("a provider that the organization has not registered is unknown, whoever else has it", async () => {
  const [one, other] = [await database.givenOrg(), await database.givenOrg()];
  await store(one.orgId, { provider: "openai", kind: "openai", key: "sk-x" });
  expect(await codeOf({ orgId: one.orgId, model: "openai/gpt-5" })).toBe("ok");
  expect(await codeOf({ orgId: other.orgId, model: "openai/gpt-5" })).toBe("model_unknown_provider");
  expect(await codeOf({ orgId: one.orgId, model: "anthropic/claude-sonnet-4-5" })).toBe("model_unknown_provider");
});

test("a name that is no provider/model is refused in a sentence", async () => {
  const { orgId } = await database.givenOrg();
  for (const model of ["gpt-5", "/x", "openai/", ""]) {
    expect(await codeOf({ orgId, model })).toBe("model_request_invalid");
  }
});

test("a key is not sent to another origin than it was stored for", async () => {
  const { orgId } = await database.givenOrg();
  const stored = { kind: "openai-compatible", baseUrl: "https://new.example/v1", key: "sk-x" };
  await store(orgId, { ...stored, provider: "moved", origin: "https://old.example" });
  expect(await codeOf({ orgId, model: "moved/m" })).toBe("model_auth_failed");
});

test("a sealed key copied from another organization's row, or sealed with a lost key, is not used", async () => {
  const [one, other] = [await database.givenOrg(), await database.givenOrg()];
  await store(one.orgId, { provider: "openai", kind: "openai", key: "sk-x", sealedFor: other.orgId });
  expect(await codeOf({ orgId: one.orgId, model: "openai/gpt-5" })).toBe("model_auth_failed");

  await store(other.orgId, { provider: "openai", kind: "openai", key: "sk-x" });
  const resolved = await resolveModel(
    { ...deps(), secretKeys: newKeys() },
    { orgId: other.orgId, model: "openai/gpt-5" },
  );
  expect(resolved.ok ? "ok" : resolved.error.code).toBe("model_auth_failed");
});

test("a compatible provider without an address is refused; one without a key is not", async () => {
  const { orgId } = await database.givenOrg();
  await store(orgId, { provider: "nowhere", kind: "openai-compatible" });
  expect(await codeOf({ orgId, model: "nowhere/m" })).toBe("model_auth_failed");
  await store(orgId, { provider: "keyless", kind: "openai-compatible", baseUrl: "http://127.0.0.1:11434/v1" });
  expect(await codeOf({ orgId, model: "keyless/m" })).toBe("ok");
});

test("a script needs no credential, and its problems are told", async () => {
  const { orgId } = await database.givenOrg();
  const model = "scripted/desk.yaml";
  expect(await codeOf({ orgId, model })).toBe("model_script_invalid");
  expect(await codeOf({ orgId, model, script: { text: "turns: [", fileName: "desk.yaml" } })).toBe(
    "model_script_invalid",
  );
  expect(await codeOf({ orgId, model, script: { text: "turns:\n  - text: hi\n", fileName: "desk.yaml" } })).toBe("ok");
});

test("the provider's cache is kept apart by organization and agent", async () => {
  const server = await startModelServer({ wire: "openai", replies: () => ({ text: ["hi"] }) });
  const [one, other] = [await database.givenOrg(), await database.givenOrg()];
  const asked = [
    [one.orgId, "repo:A"],
    [one.orgId, "repo:A"],
    [one.orgId, "repo:B"],
    [other.orgId, "repo:A"],
  ] as const;
  for (const { orgId } of [one, other]) {
    await store(orgId, { provider: "openai", kind: "openai", baseUrl: server.baseUrl });
  }
  for (const [orgId, agent] of asked) {
    const resolved = await resolveModels(deps(), { orgId, models: ["openai/m"], agent });
    if (!resolved.ok) throw resolved.error;
    const messages = [{ role: "user" as const, text: "hello" }];
    const { signal } = new AbortController();
    for await (const _ of resolved.value.stream({
      model: "openai/m",
      messages,
      tools: [],
      turn: 1,
      messageId: "m",
      signal,
    }));
  }
  const key = z.object({ prompt_cache_key: z.string().max(64) });
  const keys = server.requests.map(({ body }) => key.parse(body).prompt_cache_key);
  expect(keys[0]).toBe(keys[1]);
  expect(new Set(keys).size).toBe(3);
  await server.close();
});

test("a list is refused where any of its models cannot be used, and asks in its order where all can", async () => {
  const { orgId } = await database.givenOrg();
  const [away, here] = [
    await startModelServer({ wire: "openai", replies: () => ({ status: 500 }) }),
    await startModelServer({ wire: "openai", replies: () => ({ text: ["hi"] }) }),
  ];
  await store(orgId, { provider: "away", kind: "openai-compatible", baseUrl: away.baseUrl });
  const models = ["away/a", "here/b"];
  const early = await resolveModels(deps(), { orgId, models });
  expect(early.ok ? "ok" : early.error.code).toBe("model_unknown_provider");
  await store(orgId, { provider: "here", kind: "openai-compatible", baseUrl: here.baseUrl });
  const resolved = await resolveModels(deps(), { orgId, models });
  if (!resolved.ok) throw resolved.error;
  const messages = [{ role: "user" as const, text: "hello" }];
  const { signal } = new AbortController();
  const events: ModelEvent[] = [];
  for await (const event of resolved.value.stream({
    model: "away/a",
    messages,
    tools: [],
    turn: 1,
    messageId: "m",
    signal,
  })) {
    events.push(event);
  }
  expect(events.at(-1)).toMatchObject({
    text: "hi",
    notes: { tried: [{ model: "away/a", code: "model_unavailable" }] },
  });
  expect(here.requests[0]?.body).toMatchObject({ model: "b" });
  await Promise.all([away.close(), here.close()]);
});
