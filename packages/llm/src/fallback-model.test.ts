import { AppError } from "@shaman/kernel";
import { createOutbound } from "@shaman/outbound";
import { startModelServer, type ModelReply, type ModelServer } from "@shaman/testkit";
import { afterAll, afterEach, describe, expect, test } from "vitest";

import { createFallbackModel } from "./fallback-model.ts";
import { billedUsageOf, isRetryableModelError } from "./model-error.ts";
import type { ModelEvent } from "./model-port.ts";
import { createProviderModel } from "./provider/provider-model.ts";
import { modelStepUsage } from "./step-usage.ts";

const outbound = createOutbound({ allowLoopback: true, mapLocalhost: true });
const servers: ModelServer[] = [];

afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});
afterAll(() => outbound.close());

type Done = Extract<ModelEvent, { type: "done" }>;

const serve = async (wire: "openai" | "anthropic", reply: ModelReply): Promise<ModelServer> => {
  const server = await startModelServer({ wire, replies: [reply] });
  servers.push(server);
  return server;
};

/** An OpenAI model that gives the first reply, and an Anthropic one behind it. The first is not waited for where it hangs. */
const ask = async (first: ModelReply, second: ModelReply, controller?: AbortController) => {
  const [one, two] = [await serve("openai", first), await serve("anthropic", second)];
  const fetch = outbound.fetchWith({ timeoutMs: 20_000 });
  const hangs = "hold" in first || ("ending" in first && first.ending === "hold");
  const timeouts = hangs && controller === undefined ? { headersMs: 300, firstTokenMs: 300, idleMs: 300 } : {};
  const model = createFallbackModel([
    {
      name: "one/a",
      model: createProviderModel({ fetch, timeouts }, { kind: "openai", name: "one", baseUrl: one.baseUrl }),
    },
    {
      name: "two/b",
      model: createProviderModel({ fetch }, { kind: "anthropic", name: "two", baseUrl: two.baseUrl }),
    },
  ]);
  one.request(1).then(
    () => controller?.abort(),
    () => undefined,
  );
  const { signal } = controller ?? new AbortController();
  const texts: string[] = [];
  let done: Done | undefined;
  let error: unknown;
  try {
    const messages = [{ role: "user" as const, text: "hello" }];
    const request = { model: "one/a", messages, tools: [], turn: 1, messageId: "m", signal };
    for await (const event of model.stream(request)) {
      if (event.type === "done") done = event;
      else texts.push(event.text);
    }
  } catch (thrown) {
    error = thrown;
  }
  return { texts, done, error, asked: [one.requests.length, two.requests.length] };
};

const codeOf = (error: unknown): string | undefined => (error instanceof AppError ? error.code : undefined);

describe("a list of models", () => {
  test("asks nobody else when the first one answers, and notes nothing", async () => {
    const { texts, done, asked } = await ask({ text: ["hi"] }, { text: ["never"] });
    expect(texts).toEqual(["hi"]);
    expect(done?.notes).toBeUndefined();
    expect(asked).toEqual([1, 0]);
  });

  test.each<readonly [string, ModelReply]>([
    ["model_unavailable", { status: 500 }],
    ["model_unavailable", { status: 503 }],
    ["model_overloaded", { status: 529 }],
    ["model_overloaded", { status: 503, headers: { "retry-after": "1" } }],
    ["model_rate_limited", { status: 429 }],
    ["model_rate_limited", { status: 429, headers: { "retry-after": "60" } }],
    ["model_unavailable", { hold: "headers" }],
    ["model_unavailable", { hold: "first-token" }],
    ["model_unavailable", { toolCalls: [{ id: "c", name: "t", input: { a: 1 } }], ending: "cut" }],
  ])("asks the next one on %s (%j), and notes what was tried and why", async (code, first) => {
    const usage = { inputTokens: 10, outputTokens: 2 };
    const { texts, done, asked } = await ask(first, { text: ["from two"], usage, model: "b-2" });
    expect(texts).toEqual(["from two"]);
    expect(asked).toEqual([1, 1]);
    expect(done).toMatchObject({ model: "two/b-2", usage, toolCalls: [] });
    expect(done?.notes?.tried).toEqual([{ model: "one/a", code, message: expect.stringContaining("one/a") }]);
  });

  test.each<readonly [string, ModelReply]>([
    ["model_auth_failed", { status: 401 }],
    ["model_not_found", { status: 404 }],
    ["model_request_invalid", { status: 400 }],
    ["model_rate_limited", { status: 429, headers: { "retry-after": "2" } }],
  ])(
    "asks nobody else on %s (%j): a list does not hide what must be mended, nor a wait of moments",
    async (code, first) => {
      const { error, asked } = await ask(first, { text: ["never"] });
      expect(codeOf(error)).toBe(code);
      expect(asked).toEqual([1, 0]);
    },
  );

  test.each(["error", "end", "hold"] as const)("never changes the model once text has left (%s)", async (ending) => {
    const { texts, done, error, asked } = await ask({ text: ["partial"], ending }, { text: ["never"] });
    expect(texts).toEqual(["partial"]);
    expect(done).toBeUndefined();
    expect(isRetryableModelError(error)).toBe(true);
    expect(asked).toEqual([1, 0]);
  });

  test("counts and charges the tokens of a model that broke off, under the one that answered", async () => {
    const first = { usage: { inputTokens: 100, outputTokens: 5 }, model: "a-1", counted: true, ending: "end" } as const;
    const { done } = await ask(first, { text: ["ok"], usage: { inputTokens: 10, outputTokens: 2 }, model: "b-2" });
    if (done === undefined) throw new Error("no answer");
    const prices: Record<string, number> = { "one/a-1": 0.5, "two/b-2": 0.01 };
    const used = modelStepUsage(done, (usage, model) => (prices[model] ?? 0) * usage.inputTokens);
    expect(used).toMatchObject({ model: "two/b-2", inputTokens: 110, outputTokens: 7 });
    expect(used.costUsd).toBeCloseTo(50 + 0.1, 10);
    expect(modelStepUsage(done, (_, model) => (model === "one/a-1" ? null : 1)).costUsd).toBeNull();
  });

  test("that all fail fails with the one that passes soonest, naming each, and with what all of them counted", async () => {
    const { error } = await ask(
      { status: 429, headers: { "retry-after": "60" } },
      { usage: { inputTokens: 7, outputTokens: 1 }, ending: "error" },
    );
    expect(codeOf(error)).toBe("model_rate_limited");
    expect(error instanceof AppError && error.retryAfterMs).toBe(60_000);
    expect(error instanceof AppError && error.message).toMatch(/one\/a.*two\/b/s);
    expect(billedUsageOf(error)).toMatchObject([{ usage: { inputTokens: 7 } }]);
  });

  test("stops when the caller does", async () => {
    const { error, asked } = await ask({ hold: "headers" }, { text: ["never"] }, new AbortController());
    expect(codeOf(error)).toBe("model_aborted");
    expect(asked).toEqual([1, 0]);
  });
});
