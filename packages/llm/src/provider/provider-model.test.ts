import { AppError, Secret, type Json, type JsonObject } from "@shaman/kernel";
import { createOutbound } from "@shaman/outbound";
import { startModelServer, type ModelReply, type ModelServer } from "@shaman/testkit";
import { afterAll, afterEach, describe, expect, test } from "vitest";

import { isRetryableModelError } from "../model-error.ts";
import type { ModelEvent, ModelRequest } from "../model-port.ts";
import { createProviderModel, type ProviderDeps, type ProviderKind } from "./provider-model.ts";

const KEY = "sk-very-secret-0123456789";
const NOW = Date.UTC(2026, 0, 1);

const outbound = createOutbound({ allowLoopback: true, mapLocalhost: true });
const servers: ModelServer[] = [];

afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});
afterAll(() => outbound.close());

const serve = async (kind: ProviderKind, ...replies: readonly ModelReply[]): Promise<ModelServer> => {
  const server = await startModelServer({ wire: kind === "anthropic" ? "anthropic" : "openai", replies });
  servers.push(server);
  return server;
};

const request = (fields: Partial<ModelRequest> = {}): ModelRequest => ({
  model: "provider/some/model",
  messages: [{ role: "user", text: "hello" }],
  tools: [],
  turn: 1,
  messageId: "m-1",
  signal: new AbortController().signal,
  ...fields,
});

type Call = { readonly kind: ProviderKind; readonly server: ModelServer; readonly deps?: Partial<ProviderDeps> };

const stream = (call: Call, fields: Partial<ModelRequest> = {}): AsyncIterable<ModelEvent> =>
  createProviderModel(
    { fetch: outbound.fetchWith({ timeoutMs: 20_000 }), clock: { now: () => NOW }, ...call.deps },
    { kind: call.kind, name: "provider", baseUrl: call.server.baseUrl, apiKey: new Secret(KEY) },
  ).stream(request(fields));

const collect = async (events: AsyncIterable<ModelEvent>): Promise<ModelEvent[]> => {
  const collected: ModelEvent[] = [];
  for await (const event of events) collected.push(event);
  return collected;
};

const failure = async (act: () => Promise<unknown>): Promise<AppError> => {
  try {
    await act();
  } catch (error) {
    if (error instanceof AppError) return error;
    throw error;
  }
  throw new Error("expected a failure");
};

/** Everything an error could print. */
const everythingOf = (error: unknown): string =>
  error instanceof Error
    ? [error.message, error.stack, JSON.stringify(error), everythingOf(error.cause)].join("\n")
    : JSON.stringify(error);

describe.each<ProviderKind>(["openai", "anthropic", "openai-compatible"])("a model of kind %s", (kind) => {
  test("streams its text and ends with the whole of it, the usage and the version that answered", async () => {
    const server = await serve(kind, {
      text: ["Hel", "lo ", "wörld 🌍"],
      usage: { inputTokens: 100, outputTokens: 7, cachedInputTokens: 60 },
      model: "model-1",
    });
    expect(await collect(stream({ kind, server }))).toEqual([
      { type: "text", text: "Hel" },
      { type: "text", text: "lo " },
      { type: "text", text: "wörld 🌍" },
      {
        type: "done",
        text: "Hello wörld 🌍",
        toolCalls: [],
        usage: { inputTokens: 100, outputTokens: 7, cachedInputTokens: 60 },
        finishReason: "stop",
        model: "provider/model-1",
      },
    ]);
  });

  test("hands on parallel tool calls with their input as JSON", async () => {
    const toolCalls = [
      { id: "call_a", name: "order_lookup", input: { id: "A-1", deep: { list: [1, true, null] } } },
      { id: "call_b", name: "ping", input: {} },
    ];
    const server = await serve(kind, { text: ["Looking."], toolCalls });
    const done = (await collect(stream({ kind, server }))).at(-1);
    expect(done).toMatchObject({ type: "done", text: "Looking.", toolCalls, finishReason: "tool_calls" });
  });

  test("sends the conversation, the tools and the settings in the provider's own form", async () => {
    const server = await serve(kind, { text: ["ok"] });
    const events = stream(
      { kind, server },
      {
        messages: [
          { role: "system", text: "Be brief." },
          { role: "user", text: "look" },
          { role: "assistant", text: "", toolCalls: [{ id: "c1", name: "look", input: { a: 1 } }] },
          {
            role: "tool",
            results: [{ toolCallId: "c1", toolName: "look", output: "it is red", isError: false }],
          },
          { role: "assistant", text: "", toolCalls: [] },
          { role: "user", text: "and?" },
        ],
        tools: [
          {
            name: "look",
            description: "Looks",
            inputSchema: { type: "object", properties: { a: { type: "number" } }, required: ["a"] },
          },
        ],
        temperature: 0.2,
        maxOutputTokens: 50,
      },
    );
    await collect(events);
    const [sent] = server.requests;
    expect(sent?.path).toBe(kind === "anthropic" ? "/v1/messages" : "/v1/chat/completions");
    expect(sent?.headers[kind === "anthropic" ? "x-api-key" : "authorization"]).toBe(
      kind === "anthropic" ? KEY : `Bearer ${KEY}`,
    );
    expect(sent?.body).toMatchObject({ model: "some/model", stream: true, temperature: 0.2, max_tokens: 50 });
    const text = JSON.stringify(sent?.body);
    for (const part of ["Be brief.", "it is red", '"required":["a"]', "and?", '"c1"']) expect(text).toContain(part);
    if (kind !== "anthropic") expect(sent?.body).toMatchObject({ stream_options: { include_usage: true } });
  });

  test("tells which errors may pass, and how long the provider asks to wait", async () => {
    const in90Seconds = new Date(NOW + 90_000).toUTCString();
    const cases: readonly (readonly [ModelReply & { status: number }, string, number | undefined, boolean])[] = [
      [{ status: 429, headers: { "retry-after": "7" } }, "model_rate_limited", 7_000, true],
      [{ status: 429, headers: { "retry-after": "7", "retry-after-ms": "250" } }, "model_rate_limited", 250, true],
      [{ status: 429, headers: { "retry-after": in90Seconds } }, "model_rate_limited", 90_000, true],
      [{ status: 429, headers: { "retry-after": "soon" } }, "model_rate_limited", undefined, true],
      [{ status: 429 }, "model_rate_limited", undefined, true],
      [{ status: 529, headers: { "retry-after": "3" } }, "model_overloaded", 3_000, true],
      [{ status: 503, headers: { "retry-after": "3" } }, "model_overloaded", 3_000, true],
      [{ status: 503 }, "model_unavailable", undefined, true],
      [{ status: 500, body: "<html>oops</html>" }, "model_unavailable", undefined, true],
      [{ status: 401 }, "model_auth_failed", undefined, false],
      [{ status: 403 }, "model_auth_failed", undefined, false],
      [{ status: 404 }, "model_not_found", undefined, false],
      [{ status: 400 }, "model_request_invalid", undefined, false],
      [{ status: 413, body: "" }, "model_request_invalid", undefined, false],
    ];
    const server = await serve(kind, ...cases.map(([reply]) => reply));
    for (const [reply, code, retryAfterMs, retryable] of cases) {
      const error = await failure(() => collect(stream({ kind, server })));
      expect([reply, error.code, error.retryAfterMs, isRetryableModelError(error)]).toEqual([
        reply,
        code,
        retryAfterMs,
        retryable,
      ]);
    }
    expect(server.requests).toHaveLength(cases.length);
  });

  test("passes on what the provider said, and never the key, even when the provider repeats it", async () => {
    const server = await serve(
      kind,
      { status: 401, type: "authentication_error", message: `Incorrect API key provided: ${KEY}` },
      { status: 500, body: `proxy failed for Bearer ${KEY}` },
      { status: 400, type: "invalid_request_error", message: "max_tokens is too large" },
    );
    const echoes = [
      await failure(() => collect(stream({ kind, server }))),
      await failure(() => collect(stream({ kind, server }))),
    ];
    expect(echoes.map(everythingOf).join("\n")).not.toContain(KEY);
    const error = await failure(() => collect(stream({ kind, server })));
    expect(error.message).toContain("max_tokens is too large");
  });

  test("a stream that is cut, ends early or reports an error is unavailable, after the text that came", async () => {
    const server = await serve(
      kind,
      { text: ["partial"], ending: "cut" },
      { text: ["partial"], ending: "end" },
      { ending: "end" },
    );
    for (const expected of [["partial"], ["partial"], []]) {
      const seen: string[] = [];
      const error = await failure(async () => {
        for await (const event of stream({ kind, server })) if (event.type === "text") seen.push(event.text);
      });
      // A broken connection may swallow what was still on its way.
      expect(expected.join("").startsWith(seen.join(""))).toBe(true);
      expect([error.code, isRetryableModelError(error)]).toEqual(["model_unavailable", true]);
    }
  });

  test("an error inside the stream can be retried", async () => {
    const server = await serve(kind, { text: ["partial"], ending: "error" });
    const error = await failure(() => collect(stream({ kind, server })));
    expect(isRetryableModelError(error)).toBe(true);
  });

  test("every phase has its own end: headers, first piece, next piece", async () => {
    const short = 40;
    const long = 20_000;
    const cases = [
      [{ hold: "headers" }, { headersMs: short, firstTokenMs: long, idleMs: long }, "did not begin to answer"],
      [{ hold: "first-token" }, { headersMs: long, firstTokenMs: short, idleMs: long }, "said nothing"],
      [{ text: ["a"], ending: "hold" }, { headersMs: long, firstTokenMs: long, idleMs: short }, "in the middle"],
    ] as const;
    for (const [reply, timeouts, sentence] of cases) {
      const server = await serve(kind, reply);
      const error = await failure(() => collect(stream({ kind, server, deps: { timeouts } })));
      expect([error.code, error.message]).toEqual(["model_unavailable", expect.stringContaining(sentence)]);
      await (
        await server.request(1)
      ).closed;
    }
  });

  test("aborting ends the call and the provider's connection, in every phase", async () => {
    for (const reply of [{ hold: "headers" }, { hold: "first-token" }, { text: ["a"], ending: "hold" }] as const) {
      const server = await serve(kind, reply);
      const controller = new AbortController();
      const pending = failure(() => collect(stream({ kind, server }, { signal: controller.signal })));
      const arrived = await server.request(1);
      controller.abort();
      expect((await pending).code).toBe("model_aborted");
      await arrived.closed;
    }
    const server = await serve(kind, { text: ["never"] });
    const error = await failure(() => collect(stream({ kind, server }, { signal: AbortSignal.abort() })));
    expect(error.code).toBe("model_aborted");
    expect(server.requests).toEqual([]);
  });

  test("a reader that leaves early ends the provider's connection", async () => {
    const server = await serve(kind, { text: ["a"], ending: "hold" });
    for await (const event of stream({ kind, server })) {
      expect(event).toEqual({ type: "text", text: "a" });
      break;
    }
    await (
      await server.request(1)
    ).closed;
  });

  test("a server that is away is unavailable; an address the guard refuses is not worth a retry", async () => {
    const server = await serve(kind, { text: ["a"] });
    await server.close();
    const away = await failure(() => collect(stream({ kind, server })));
    expect([away.code, isRetryableModelError(away)]).toEqual(["model_unavailable", true]);

    const closed = createOutbound({ allowLoopback: false, mapLocalhost: false });
    const refused = await failure(() => collect(stream({ kind, server, deps: { fetch: closed.fetch } })));
    await closed.close();
    expect([refused.code, refused.kind]).toEqual(["model_request_invalid", "user"]);
  });

  test("says when the answer was cut by its length or by a filter", async () => {
    const words =
      kind === "anthropic"
        ? ([
            ["max_tokens", "length"],
            ["refusal", "content_filter"],
          ] as const)
        : ([
            ["length", "length"],
            ["content_filter", "content_filter"],
          ] as const);
    for (const [finishReason, expected] of words) {
      const server = await serve(kind, { text: ["a"], finishReason });
      expect((await collect(stream({ kind, server }))).at(-1)).toMatchObject({ type: "done", finishReason: expected });
    }
  });
});

test("a server without a key gets no credential at all", async () => {
  const server = await serve("openai-compatible", { text: ["ok"] });
  const model = createProviderModel(
    { fetch: outbound.fetch },
    { kind: "openai-compatible", name: "local", baseUrl: server.baseUrl },
  );
  await collect(model.stream(request()));
  expect(server.requests[0]?.headers.authorization).toBeUndefined();
});

test("tool input that is no JSON object stays what the model wrote, and can be sent back to it", async () => {
  const broken: Json = "not an object";
  const server = await serve("openai", { toolCalls: [{ id: "c", name: "t", input: broken }] }, { text: ["ok"] });
  const done = (await collect(stream({ kind: "openai", server }))).at(-1);
  if (done?.type !== "done") throw new Error("no done event");
  expect(done.toolCalls).toEqual([{ id: "c", name: "t", input: broken }]);
  await collect(
    stream(
      { kind: "openai", server },
      {
        messages: [
          { role: "user", text: "go" },
          { role: "assistant", text: "", toolCalls: done.toolCalls },
          { role: "tool", results: [{ toolCallId: "c", toolName: "t", output: "bad input", isError: true }] },
        ],
      },
    ),
  );
  expect(JSON.stringify(server.requests[1]?.body)).toContain("not an object");
});

describe("a schema for the answer", () => {
  const strict = {
    type: "object",
    required: ["total"],
    additionalProperties: false,
    properties: { total: { type: "number" } },
  };
  const ask = async (kind: ProviderKind, outputSchema: JsonObject, model = "provider/some/model") => {
    const server = await serve(kind, { text: ['{"total": 3}'] });
    const events = await collect(stream({ kind, server }, { outputSchema, model }));
    return { body: server.requests[0]?.body, done: events.at(-1) };
  };

  test("is OpenAI's response format, strict where OpenAI would take it so", async () => {
    const { body, done } = await ask("openai", strict);
    expect(body).toMatchObject({
      response_format: { type: "json_schema", json_schema: { schema: strict, strict: true } },
    });
    expect(done).toMatchObject({ text: '{"total": 3}' });
    for (const loose of [
      { ...strict, additionalProperties: true },
      { ...strict, required: [] },
      { ...strict, properties: { total: { type: "number", minimum: 0 } } },
      { ...strict, properties: { total: { type: "object" } } },
    ]) {
      const sent = await ask("openai", loose);
      expect(sent.body, JSON.stringify(loose)).toMatchObject({
        response_format: { json_schema: { strict: false } },
      });
    }
  });

  test("is Anthropic's output format, or a tool whose input is the answer where the model knows no such format", async () => {
    const native = await ask("anthropic", strict, "provider/claude-sonnet-4-5");
    expect(native.body).toMatchObject({ output_config: { format: { type: "json_schema", schema: strict } } });
    expect(native.done).toMatchObject({ text: '{"total": 3}' });

    const server = await serve("anthropic", { toolCalls: [{ id: "c", name: "json", input: { total: 3 } }] });
    const model = "provider/claude-3-haiku-20240307";
    const events = await collect(stream({ kind: "anthropic", server }, { outputSchema: strict, model }));
    expect(server.requests[0]?.body).toMatchObject({ tools: [{ name: "json", input_schema: strict }] });
    const done = events.at(-1);
    expect(done).toMatchObject({ type: "done", toolCalls: [], finishReason: "stop" });
    expect(JSON.parse(done?.type === "done" ? done.text : "")).toEqual({ total: 3 });
  });

  test.each<readonly [ProviderKind, JsonObject]>([
    ["openai-compatible", strict],
    ["openai", { type: "array", items: { type: "string" } }],
    ["anthropic", { anyOf: [{ type: "string" }, { type: "number" }] }],
  ])("is told to the model where a provider of kind %s would not take %j", async (kind, schema) => {
    const { body } = await ask(kind, schema);
    expect(body).not.toHaveProperty("response_format");
    expect(body).not.toHaveProperty("output_config");
    expect(JSON.stringify(body)).toContain("fits this JSON Schema");
  });
});

describe("what calls have in common is marked for the provider's cache", () => {
  const tool = (name: string) => ({ name, description: name, inputSchema: { type: "object" } });
  const messages = [
    { role: "system" as const, text: "Be brief." },
    { role: "user" as const, text: "hello" },
  ];

  test("by Anthropic's marks on the last tool and the system prompt, and on nothing that changes with every call", async () => {
    const server = await serve("anthropic", { text: ["ok"] });
    await collect(stream({ kind: "anthropic", server }, { messages, tools: [tool("a"), tool("b")] }));
    const mark = { type: "ephemeral" };
    expect(server.requests[0]?.body).toMatchObject({
      system: [{ type: "text", text: "Be brief.", cache_control: mark }],
      tools: [{ name: "a" }, { name: "b", cache_control: mark }],
    });
    expect(JSON.stringify(server.requests[0]?.body).split("cache_control")).toHaveLength(3);
  });

  test("by OpenAI's cache key, and for a server that only looks like OpenAI by nothing", async () => {
    for (const kind of ["openai", "openai-compatible"] as const) {
      const server = await serve(kind, { text: ["ok"] });
      const settings = { kind, name: "provider", baseUrl: server.baseUrl, promptCacheKey: "organization-and-agent" };
      const model = createProviderModel({ fetch: outbound.fetch }, settings);
      await collect(model.stream(request({ messages })));
      const body = JSON.stringify(server.requests[0]?.body);
      expect(body.includes('"prompt_cache_key":"organization-and-agent"')).toBe(kind === "openai");
      expect(body).not.toContain("cache_control");
    }
  });
});
