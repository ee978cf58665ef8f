import { AppError, Secret, type Json } from "@shaman/kernel";
import { createOutbound } from "@shaman/outbound";
import { startModelServer, type ModelReply, type ModelServer } from "@shaman/testkit";
import { afterAll, afterEach, describe, expect, test } from "vitest";

import { billedUsageOf, isRetryableModelError } from "../model-error.ts";
import type { ModelEvent, ToolCall } from "../model-port.ts";
import { createProviderModel, type ProviderKind } from "./provider-model.ts";

const outbound = createOutbound({ allowLoopback: true, mapLocalhost: true });
const servers: ModelServer[] = [];

afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});
afterAll(() => outbound.close());

/** What reached the port: the texts, the `done` event if it came, and the error if it came instead. */
const call = async (kind: ProviderKind, reply: ModelReply, stop?: "at !" | "when nothing more comes") => {
  const server = await startModelServer({ wire: kind === "anthropic" ? "anthropic" : "openai", replies: [reply] });
  servers.push(server);
  const controller = new AbortController();
  if (stop === "when nothing more comes") void server.request(1).then(() => setTimeout(() => controller.abort(), 300));
  const model = createProviderModel(
    { fetch: outbound.fetchWith({ timeoutMs: 20_000 }), timeouts: { idleMs: 5_000 } },
    { kind, name: "provider", baseUrl: server.baseUrl, apiKey: new Secret("sk-0123456789") },
  );
  const texts: string[] = [];
  let done: Extract<ModelEvent, { type: "done" }> | undefined;
  try {
    const events = model.stream({
      model: "provider/m",
      messages: [{ role: "user", text: "hello there" }],
      tools: [],
      turn: 1,
      messageId: "m-1",
      signal: controller.signal,
    });
    for await (const event of events) {
      if (event.type === "done") done = event;
      else texts.push(event.text);
      if (stop === "at !" && texts.join("").endsWith("!")) controller.abort();
    }
    return { texts, done, error: undefined };
  } catch (error) {
    if (error instanceof AppError) return { texts, done, error };
    throw error;
  }
};

const callsOf = (count: number): readonly ToolCall[] =>
  Array.from({ length: count }, (_, index) => {
    const input: Json = { order: `A-${index}`, text: 'quotes " and \\ and\nlines', deep: [{ n: index }, null] };
    return { id: `call_${index}`, name: `tool_${index % 3}`, input };
  });

const KINDS: readonly ProviderKind[] = ["openai", "anthropic", "openai-compatible"];

describe.each(KINDS)("the streaming format of %s", (kind) => {
  test("ten parallel tool calls arrive once each, in order, however their pieces are interleaved and cut", async () => {
    const toolCalls = callsOf(10);
    const { texts, done } = await call(kind, { text: ["Löök ", "🌍"], toolCalls, bytesPerWrite: 13 });
    expect(texts.join("")).toBe("Löök 🌍");
    expect(done).toMatchObject({ finishReason: "tool_calls", toolCalls });
    expect(done?.toolCalls).toHaveLength(10);
  });

  test("a tool call without arguments has an empty object as input", async () => {
    const { done } = await call(kind, { toolCalls: [{ id: "c", name: "ping", input: {} }] });
    expect(done?.toolCalls).toEqual([{ id: "c", name: "ping", input: {} }]);
  });

  test.each(["cut", "end", "error"] as const)(
    "an answer that breaks off (%s) between tool calls gives no call at all, and may be tried again",
    async (ending) => {
      const whole = { text: ["Look."], toolCalls: callsOf(3) };
      for (const pieces of [3, 6, 9, 12]) {
        const { done, error } = await call(kind, { ...whole, ending, pieces });
        expect(done, `${pieces} pieces`).toBeUndefined();
        expect(isRetryableModelError(error), `${pieces} pieces`).toBe(true);
      }
    },
  );

  test("an answer cut by its length says so, with the calls that were whole", async () => {
    const finishReason = kind === "anthropic" ? "max_tokens" : "length";
    const { done } = await call(kind, { text: ["half an ans"], finishReason });
    expect(done).toMatchObject({ finishReason: "length", text: "half an ans", toolCalls: [] });
  });

  test("the tokens of an answer are the provider's, thoughts and cached ones within them", async () => {
    const counts = { inputTokens: 1_000, outputTokens: 90, cachedInputTokens: 600, reasoningTokens: 64 };
    const writes = kind === "anthropic" ? { cacheWriteInputTokens: 300 } : {};
    const { done } = await call(kind, { text: ["ok"], usage: { ...counts, ...writes } });
    expect(done?.usage).toEqual({ ...counts, ...writes });
  });

  test.each(["cut", "end", "error"] as const)(
    "what a provider counted before its answer broke off (%s) is on the error, under the version that counted it",
    async (ending) => {
      const usage = { inputTokens: 1_000, outputTokens: 90, cachedInputTokens: 600 };
      const { error } = await call(kind, { text: ["partial"], usage, model: "m-1", ending, counted: true });
      // Where the connection breaks, what was still on its way may be lost.
      const billed = billedUsageOf(error);
      if (ending !== "cut" || billed.length > 0) {
        expect(billed).toEqual([{ model: "provider/m-1", usage: expect.objectContaining({ inputTokens: 1_000 }) }]);
      }
      if (ending !== "cut") expect(billed[0]?.usage).toEqual(usage);
    },
  );

  test("an answer that its caller cut costs what was counted until then, and at least what was asked and written", async () => {
    const usage = { inputTokens: 1_000, outputTokens: 4, cachedInputTokens: 0 };
    const text = ["a".repeat(400), "b".repeat(399), "!"];
    const { error } = await call(kind, { text, usage, model: "m-1", ending: "hold" }, "at !");
    expect(error?.code).toBe("model_aborted");
    // Only Anthropic counts the input before the first text; the others count once, at the end.
    const inputTokens = kind === "anthropic" ? 1_000 : 1;
    const cost = { inputTokens, outputTokens: 100, cachedInputTokens: 0 };
    expect(billedUsageOf(error)).toEqual([{ model: "provider/m-1", usage: cost }]);
  });

  test("what a provider counted itself is not estimated", async () => {
    const usage = { inputTokens: 1_000, outputTokens: 90, cachedInputTokens: 600 };
    // A run of the same has more characters a token than any estimate would assume.
    const reply = { text: ["a".repeat(4_000), "b"], usage, model: "m-1", ending: "hold", counted: true } as const;
    const { error } = await call(kind, reply, "when nothing more comes");
    expect(billedUsageOf(error)).toEqual([{ model: "provider/m-1", usage }]);
  });

  test("a call that its caller cut before a word came costs what was asked, if the provider had taken it", async () => {
    const { error: taken } = await call(kind, { hold: "first-token" }, "when nothing more comes");
    expect(billedUsageOf(taken)).toMatchObject([{ usage: { inputTokens: 1, outputTokens: 0 } }]);
    const { error: untaken } = await call(kind, { hold: "headers" }, "when nothing more comes");
    expect([untaken?.code, billedUsageOf(untaken)]).toEqual(["model_aborted", []]);
  });

  test("a call that was refused costs nothing", async () => {
    const { error } = await call(kind, { status: 429 });
    expect(billedUsageOf(error)).toEqual([]);
  });
});
