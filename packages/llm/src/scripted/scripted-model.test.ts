import { AppError } from "@shaman/kernel";
import { describe, expect, test } from "vitest";

import type { ModelEvent, ModelMessage, ModelRequest } from "../model-port.ts";
import { isRetryableModelError } from "../model-error.ts";
import { digestOf } from "../request-digest.ts";
import { createScriptedModel } from "./scripted-model.ts";

const ask = (fields: Partial<ModelRequest> & { readonly prompt?: string } = {}): ModelRequest => ({
  model: "scripted/desk.yaml",
  messages: [
    { role: "system", text: "You are a desk." },
    { role: "user", text: fields.prompt ?? "hello" },
  ],
  tools: [],
  turn: 1,
  messageId: "m-1",
  signal: new AbortController().signal,
  ...fields,
});

const collect = async (stream: AsyncIterable<ModelEvent>): Promise<ModelEvent[]> => {
  const events: ModelEvent[] = [];
  for await (const event of stream) events.push(event);
  return events;
};

const play = (script: string, request: ModelRequest = ask()): Promise<ModelEvent[]> =>
  collect(createScriptedModel({ script, fileName: "desk.yaml" }).stream(request));

const failure = async (act: () => Promise<unknown>): Promise<AppError> => {
  try {
    await act();
  } catch (error) {
    if (error instanceof AppError) return error;
    throw error;
  }
  throw new Error("expected a failure");
};

const doneOf = (events: readonly ModelEvent[]) => {
  const done = events.at(-1);
  if (done?.type !== "done") throw new Error("no done event");
  return done;
};

describe("a scripted model", () => {
  test("streams its chunks in order and ends with the whole text and the usage", async () => {
    const events = await play(`
turns:
  - text: ["Hello, ", "world", ""]
    usage: {inputTokens: 12, outputTokens: 3, cachedInputTokens: 4}
`);
    expect(events).toEqual([
      { type: "text", text: "Hello, " },
      { type: "text", text: "world" },
      {
        type: "done",
        text: "Hello, world",
        toolCalls: [],
        usage: { inputTokens: 12, outputTokens: 3, cachedInputTokens: 4 },
        finishReason: "stop",
        model: "scripted/desk.yaml",
      },
    ]);
  });

  test("lets the first turn that matches answer", async () => {
    const script = `
turns:
  - match: {turn: 2}
    text: second
  - match: {messageId: m-7}
    text: by id
  - match: {prompt: order}
    text: literal
  - match: {prompt: {regex: "(?i)^INVOICE"}}
    text: pattern
  - text: anything
`;
    expect(doneOf(await play(script, ask({ turn: 2 }))).text).toBe("second");
    expect(doneOf(await play(script, ask({ messageId: "m-7" }))).text).toBe("by id");
    expect(doneOf(await play(script, ask({ messageId: "m-70" }))).text).toBe("anything");
    expect(doneOf(await play(script, ask({ prompt: "my order, please" }))).text).toBe("literal");
    expect(doneOf(await play(script, ask({ prompt: "Invoice 7" }))).text).toBe("pattern");
    expect(doneOf(await play(script, ask({ prompt: "other" }))).text).toBe("anything");
  });

  test("treats a literal as a literal, whatever pattern signs it holds", async () => {
    const script = "turns:\n  - match: {prompt: a.c}\n    text: literal\n  - text: other\n";
    expect(doneOf(await play(script, ask({ prompt: "abc" }))).text).toBe("other");
    expect(doneOf(await play(script, ask({ prompt: "a.c" }))).text).toBe("literal");
  });

  test("quotes the prompt and named captures once, also inside tool input, and expands nothing that they bring in", async () => {
    const script = `
turns:
  - match: {prompt: {regex: "order (?P<order>\\\\S+)"}}
    text: "{{ order }} of: {{prompt}}"
    toolCalls:
      - {name: order_lookup, input: {id: "{{order}}", tags: ["x-{{order}}", 7], deep: {none: null}}}
      - {name: ping}
`;
    const prompt = "order {{prompt}}";
    const done = doneOf(await play(script, ask({ prompt, turn: 3 })));
    expect(done.text).toBe("{{prompt}} of: order {{prompt}}");
    expect(done.finishReason).toBe("tool_calls");
    expect(done.toolCalls).toEqual([
      {
        id: "call_3_1",
        name: "order_lookup",
        input: { id: "{{prompt}}", tags: ["x-{{prompt}}", 7], deep: { none: null } },
      },
      { id: "call_3_2", name: "ping", input: {} },
    ]);
  });

  test("matches the results the tools have just given, and no older ones", async () => {
    const script = `
turns:
  - match: {toolResult: {tool: pay, isError: true}}
    text: refused
  - match: {toolResult: {tool: look, output: {regex: "state=(?P<state>\\\\w+)"}}}
    text: "It is {{state}}."
  - match: {toolResult: plain}
    text: plain result
  - text: nothing new
`;
    const after = (toolName: string, output: string, isError = false): ModelMessage[] => [
      { role: "user", text: "go" },
      { role: "assistant", text: "", toolCalls: [{ id: "1", name: toolName, input: {} }] },
      { role: "tool", results: [{ toolCallId: "1", toolName, output, isError }] },
    ];
    expect(doneOf(await play(script, ask({ messages: after("pay", "no money", true) }))).text).toBe("refused");
    expect(doneOf(await play(script, ask({ messages: after("look", "state=shipped") }))).text).toBe("It is shipped.");
    expect(doneOf(await play(script, ask({ messages: after("other", "a plain text") }))).text).toBe("plain result");
    const later: ModelMessage[] = [...after("look", "state=shipped"), { role: "user", text: "and?" }];
    expect(doneOf(await play(script, ask({ messages: later }))).text).toBe("nothing new");
  });

  test("reads the agent's own prompt where the conversation holds no user message", async () => {
    const script = 'turns:\n  - match: {prompt: desk}\n    text: "{{prompt}}"\n';
    const done = doneOf(await play(script, ask({ messages: [{ role: "system", text: "the desk" }] })));
    expect(done.text).toBe("the desk");
  });

  test("says what was asked and which turns there are when none matches", async () => {
    const script = "turns:\n  - match: {prompt: order, turn: 1}\n    text: a\n  - match: {turn: 4}\n    text: b\n";
    const error = await failure(() => play(script, ask({ prompt: "where is my parcel" })));
    expect(error.code).toBe("model_script_no_match");
    expect(error.kind).toBe("user");
    expect(error.message).toContain('"where is my parcel"');
    expect(error.message).toContain('line 2: prompt "order" and turn 1');
    expect(error.message).toContain("line 4: turn 4");
    expect(isRetryableModelError(error)).toBe(false);
  });

  test("fails as a provider would, with the time to come back", async () => {
    const cases = [
      ["{status: 429, retryAfterSeconds: 1.5}", "model_rate_limited", 1500, true],
      ["{status: 529}", "model_overloaded", undefined, true],
      ["{status: 500}", "model_unavailable", undefined, true],
      ["{status: 401}", "model_auth_failed", undefined, false],
      ["{status: 400}", "model_request_invalid", undefined, false],
      ["{status: 404}", "model_not_found", undefined, false],
    ] as const;
    for (const [error, code, retryAfterMs, retryable] of cases) {
      const thrown = await failure(() => play(`turns:\n  - error: ${error}\n`));
      expect([thrown.code, thrown.retryAfterMs, isRetryableModelError(thrown)]).toEqual([
        code,
        retryAfterMs,
        retryable,
      ]);
    }
  });

  test("breaks a stream off after its text when told to", async () => {
    const seen: string[] = [];
    const model = createScriptedModel({ script: "turns:\n  - text: [a, b]\n    error: cut\n", fileName: "s.yaml" });
    const error = await failure(async () => {
      for await (const event of model.stream(ask())) if (event.type === "text") seen.push(event.text);
    });
    expect(seen).toEqual(["a", "b"]);
    expect(error.code).toBe("model_unavailable");
  });

  test("stops waiting as soon as the caller aborts: before, in a delay, and when it hangs", async () => {
    const scripts = [
      "turns:\n  - text: a\n    delayMs: 600000\n",
      "turns:\n  - toolCalls: [{name: a}]\n    delayMs: 600000\n",
      "turns:\n  - error: hang\n",
    ];
    for (const script of scripts) {
      const controller = new AbortController();
      const pending = failure(() => play(script, ask({ signal: controller.signal })));
      controller.abort();
      expect((await pending).code).toBe("model_aborted");
      expect((await failure(() => play(script, ask({ signal: controller.signal })))).code).toBe("model_aborted");
    }
  });

  test("starts no timer when its script has no delay", async () => {
    const stream = createScriptedModel({ script: "turns:\n  - text: [a, b, c]\n", fileName: "s.yaml" }).stream(ask());
    let timerFired = false;
    const timer = setImmediate(() => {
      timerFired = true;
    });
    await collect(stream);
    clearImmediate(timer);
    expect(timerFired).toBe(false);
  });

  test("refuses a broken script with file and line", async () => {
    const error = await failure(() => play("turns:\n  - txt: hello\n"));
    expect(error.code).toBe("model_script_invalid");
    expect(error.message).toContain("desk.yaml:2");
  });
});

describe("a recording", () => {
  const recorded = (request: ModelRequest, text: string): string =>
    `  - match: {request: ${JSON.stringify(digestOf(request))}}\n    text: ${JSON.stringify(text)}\n`;

  test("answers exactly the request it was made from, in any task and at any turn, with its text to the letter", async () => {
    const script = `turns:\n${recorded(ask({ prompt: "one" }), "{{prompt}} is kept")}${recorded(ask({ prompt: "two" }), "second")}`;
    expect(doneOf(await play(script, ask({ prompt: "two", turn: 9, messageId: "another" }))).text).toBe("second");
    expect(doneOf(await play(script, ask({ prompt: "one" }))).text).toBe("{{prompt}} is kept");
  });

  test("says what differs from the nearest request it knows, and how to record it anew", async () => {
    const script = `turns:\n${recorded(ask({ prompt: "one", temperature: 1 }), "a")}${recorded(ask({ prompt: "two" }), "b")}`;
    const error = await failure(() => play(script, ask({ prompt: "three" })));
    expect(error.code).toBe("model_script_no_match");
    expect(error.message).toContain("(line 4) was asked with other messages or tool results.");
    expect(error.message).toContain("./shaman model record");
    const tools = [{ name: "t", description: "", inputSchema: {} }];
    const both = await failure(() => play(script, ask({ prompt: "two", tools, temperature: 0.5 })));
    expect(both.message).toContain("with other tools, temperature or output schema.");
  });
});
