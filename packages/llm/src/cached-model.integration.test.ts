import { createOutbound } from "@shaman/outbound";
import { deleteExpiredModelResponses } from "@shaman/tenancy";
import { startModelServer, testDatabase, type ModelReply, type ModelServer, type TestDatabase } from "@shaman/testkit";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";

import { createCachedModel, type CachedModelDeps, type CachePolicy } from "./cached-model.ts";
import type { ModelEvent, ModelRequest } from "./model-port.ts";
import { createProviderModel } from "./provider/provider-model.ts";
import { modelStepUsage } from "./step-usage.ts";

const outbound = createOutbound({ allowLoopback: true, mapLocalhost: true });
const servers: ModelServer[] = [];
let database: TestDatabase;

beforeAll(async () => {
  database = await testDatabase();
});
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});
afterAll(async () => {
  await outbound.close();
  await database.close();
});

const serve = async (reply: (number: number) => ModelReply): Promise<ModelServer> => {
  const server = await startModelServer({ wire: "openai", replies: (_, number) => reply(number) });
  servers.push(server);
  return server;
};

const request = (fields: Partial<ModelRequest> = {}): ModelRequest => ({
  model: "openai/m",
  messages: [{ role: "user", text: "hello" }],
  tools: [],
  turn: 1,
  messageId: "m-1",
  signal: new AbortController().signal,
  ...fields,
});

const policy = (orgId: string, fields: Partial<CachePolicy> = {}): CachePolicy => ({
  orgId,
  seconds: 60,
  maxAnswers: 100,
  source: ["openai", "https://one.example", "openai/m"],
  ...fields,
});

type Done = Extract<ModelEvent, { type: "done" }>;

/** Asks through the cache; fails as the model does. */
const ask = async (
  server: ModelServer,
  cache: CachePolicy,
  fields: Partial<ModelRequest> = {},
  deps: CachedModelDeps = { db: database.as("internal") },
): Promise<{ texts: string[]; done: Done | undefined }> => {
  const provider = createProviderModel(
    { fetch: outbound.fetch },
    { kind: "openai", name: "openai", baseUrl: server.baseUrl },
  );
  const texts: string[] = [];
  let done: Done | undefined;
  for await (const event of createCachedModel(deps, cache, provider).stream(request(fields))) {
    if (event.type === "done") done = event;
    else texts.push(event.text);
  }
  return { texts, done };
};

const numbered = (number: number): ModelReply => ({
  text: ["answer ", `${number}`],
  usage: { inputTokens: 10, outputTokens: 2 },
  model: "m-1",
});

describe("the cache of answers", () => {
  test("gives the same answer to the same question, whole, marked, and for nothing", async () => {
    const { orgId } = await database.givenOrg();
    const toolCalls = [{ id: "c1", name: "look", input: { b: 1, a: [null] } }];
    const server = await serve((number) => ({ ...numbered(number), toolCalls }));
    const first = await ask(server, policy(orgId));
    expect(first.done?.notes).toBeUndefined();
    const again = await ask(server, policy(orgId), { turn: 4, messageId: "another task", maxOutputTokens: 900 });
    expect(server.requests).toHaveLength(1);
    expect(again.texts.join("")).toBe("answer 1");
    expect(again.done).toEqual({
      ...first.done,
      usage: { inputTokens: 0, outputTokens: 0, cachedInputTokens: 0 },
      notes: { cached: true },
    });
    if (again.done === undefined) throw new Error("no answer");
    expect(modelStepUsage(again.done, () => null)).toMatchObject({ model: "openai/m-1", inputTokens: 0, costUsd: 0 });
  });

  test("asks anew when anything that decides the answer is another", async () => {
    const { orgId } = await database.givenOrg();
    const server = await serve(numbered);
    const tool = { name: "look", description: "Looks", inputSchema: { type: "object" } };
    const questions: readonly (readonly [Partial<ModelRequest>, Partial<CachePolicy>?])[] = [
      [{}],
      [{ messages: [{ role: "user", text: "hello " }] }],
      [{ messages: [{ role: "system", text: "hello" }] }],
      [{ tools: [tool] }],
      [{ tools: [{ ...tool, description: "Looks again" }] }],
      [{ temperature: 0 }],
      [{ outputSchema: { type: "object" } }],
      [{}, { source: ["openai", "https://one.example", "openai/n"] }],
      [{}, { source: ["openai", "https://two.example", "openai/m"] }],
    ];
    for (const [fields, cache] of questions) await ask(server, policy(orgId, cache), fields);
    expect(server.requests).toHaveLength(questions.length);
    for (const [fields, cache] of questions) await ask(server, policy(orgId, cache), fields);
    expect(server.requests).toHaveLength(questions.length);
  });

  test("asks anew for other media, and keeps no answer that was given without them", async () => {
    const { orgId } = await database.givenOrg();
    const asking = (sha256: string): Partial<ModelRequest> => ({
      messages: [{ role: "user", text: "look", media: [{ mediaType: "image/png", sha256, base64: "AAAA" }] }],
    });
    const server = await serve(numbered);
    for (const sha256 of ["a", "b", "a", "b"]) await ask(server, policy(orgId), asking(sha256));
    expect(server.requests).toHaveLength(2);
    const blind = await serve((number) => (number % 2 === 1 ? { status: 400 } : numbered(number)));
    for (const _ of [1, 2]) {
      expect((await ask(blind, policy(orgId), asking("c"))).done?.notes?.mediaRefused).toContain("400");
    }
    expect(blind.requests).toHaveLength(4);
  });

  test("is each organization's own", async () => {
    const [one, other] = [await database.givenOrg(), await database.givenOrg()];
    const server = await serve(numbered);
    for (const { orgId } of [one, other, one, other]) await ask(server, policy(orgId));
    expect(server.requests).toHaveLength(2);
    const rows = await database.as("internal").batch(other.orgId, [{ text: "SELECT org_id FROM model_response" }]);
    expect(rows[0]?.rows).toEqual([{ org_id: other.orgId }]);
  });

  test.each<readonly [string, ModelReply]>([
    ["cut by its length", { text: ["half"], finishReason: "length" }],
    ["filtered", { text: ["…"], finishReason: "content_filter" }],
    ["too large to keep", { text: ["x".repeat(300_000)] }],
  ])("does not keep an answer that was %s", async (_, reply) => {
    const { orgId } = await database.givenOrg();
    const server = await serve(() => reply);
    for (const _turn of [1, 2]) await ask(server, policy(orgId));
    expect(server.requests).toHaveLength(2);
  });

  test("does not keep an answer that broke off", async () => {
    const { orgId } = await database.givenOrg();
    const server = await serve((number) => (number === 1 ? { text: ["half"], ending: "end" } : numbered(number)));
    await expect(ask(server, policy(orgId))).rejects.toThrow();
    expect((await ask(server, policy(orgId))).texts.join("")).toBe("answer 2");
  });

  test("forgets what has expired, and the clean-up deletes that of every organization and nothing else", async () => {
    const [one, other] = [await database.givenOrg(), await database.givenOrg()];
    const server = await serve(numbered);
    for (const { orgId } of [one, other]) {
      await ask(server, policy(orgId));
      await ask(server, policy(orgId), { temperature: 1 });
    }
    await database.inspect(
      "UPDATE model_response SET expires_at = now() - interval '1 second' WHERE org_id = ANY($1) AND request_hash IN (SELECT min(request_hash) FROM model_response WHERE org_id = ANY($1))",
      [[one.orgId, other.orgId]],
    );
    const before = server.requests.length;
    await ask(server, policy(one.orgId));
    await ask(server, policy(one.orgId), { temperature: 1 });
    expect(server.requests).toHaveLength(before + 1);

    const count = "SELECT org_id, count(*)::int AS kept FROM model_response WHERE org_id = ANY($1) GROUP BY 1";
    const kept = async () =>
      new Map(
        (await database.inspect<{ org_id: string; kept: number }>(count, [[one.orgId, other.orgId]])).map((row) => [
          row.org_id,
          row.kept,
        ]),
      );
    expect((await kept()).get(other.orgId)).toBe(2);
    const worker = database.as("worker");
    expect(await deleteExpiredModelResponses({ db: worker }, new AbortController().signal)).toBe(1);
    expect(await kept()).toEqual(
      new Map([
        [one.orgId, 2],
        [other.orgId, 1],
      ]),
    );
    const read = worker.unscoped((tx) => tx.query({ text: "SELECT response FROM model_response" }));
    await expect(read).rejects.toThrow(/permission denied/);
  });

  test("keeps no more answers than it may, and the newest of them", async () => {
    const { orgId } = await database.givenOrg();
    const server = await serve(numbered);
    const say = (text: string): Partial<ModelRequest> => ({ messages: [{ role: "user", text }] });
    for (const text of ["a", "b", "c", "d"]) await ask(server, policy(orgId, { maxAnswers: 2 }), say(text));
    for (const text of ["d", "c"]) await ask(server, policy(orgId, { maxAnswers: 2 }), say(text));
    expect(server.requests).toHaveLength(4);
    await ask(server, policy(orgId, { maxAnswers: 2 }), say("a"));
    expect(server.requests).toHaveLength(5);
  });

  test("that is away costs a model call, not the answer", async () => {
    const { orgId } = await database.givenOrg();
    const server = await serve(numbered);
    const errors: unknown[] = [];
    const broken: CachedModelDeps = {
      db: { batch: () => Promise.reject(new Error("away")) },
      onError: (error) => void errors.push(error),
    };
    expect((await ask(server, policy(orgId), {}, broken)).texts.join("")).toBe("answer 1");
    expect(errors).toHaveLength(2);
  });
});
