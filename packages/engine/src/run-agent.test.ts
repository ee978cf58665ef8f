import type { AgentDefinition } from "@shaman/agents";
import { AppError, type JsonObject } from "@shaman/kernel";
import {
  createProviderModel,
  type Model,
  type ModelEvent,
  type ModelRequest,
  type ModelUsage,
  type ToolCall,
} from "@shaman/llm";
import type { StepRecord } from "@shaman/runs";
import { describe, expect, test } from "vitest";
import { agentDefinition } from "./agent.scene.ts";
import type { EngineEvent } from "./engine-event.ts";
import { runAgent } from "./run-agent.ts";
import type { EngineDeps, RunAgentInput } from "./run-state.ts";

const DEFINITION = agentDefinition({ name: "Clerk", tools: ["write_artifact", "request_input"] });

type Turn = {
  readonly text?: readonly string[];
  readonly calls?: readonly ToolCall[];
  readonly finish?: "content_filter";
};
type Script = (request: ModelRequest) => Turn | Error | "hold";

/** A model that answers by a function of the request, and keeps the requests. */
const scripted = (script: Script) => {
  const requests: ModelRequest[] = [];
  const stream = async function* (request: ModelRequest): AsyncGenerator<ModelEvent, void, undefined> {
    requests.push({ ...request, messages: [...request.messages] });
    const turn = script(request);
    if (turn instanceof Error) throw turn;
    if (turn === "hold") {
      await new Promise((_, reject) => {
        request.signal.addEventListener("abort", () => reject(request.signal.reason), { once: true });
      });
      return;
    }
    for (const text of turn.text ?? []) yield { type: "text", text };
    const toolCalls = turn.calls ?? [];
    yield {
      type: "done",
      text: (turn.text ?? []).join(""),
      toolCalls,
      usage: { inputTokens: 100, outputTokens: 10, cachedInputTokens: 0 },
      finishReason: turn.finish ?? (toolCalls.length > 0 ? "tool_calls" : "stop"),
      model: "test-1",
    };
  };
  const model: Model = { stream };
  return { model, requests };
};

const write = (id: string): ToolCall => ({ id, name: "write_artifact", input: { name: `${id}.txt`, content: id } });
const ask = (id: string): ToolCall => ({ id, name: "request_input", input: { question: "Which size?" } });

const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";
const PICTURE = { raw: PNG, mediaType: "image/png", filename: "a.png" };
const SEEN = { mediaType: "image/png", base64: PNG, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) };

const THREE_TURNS: readonly Turn[] = [
  { text: ["Be", "gun"], calls: [write("a")] },
  { calls: [write("b"), write("c")] },
  { text: ["Done"] },
];
const byTurn =
  (turns: readonly Turn[]): Script =>
  ({ turn }) =>
    turns[turn - 1] ?? new Error(`there is no turn ${turn}`);

/** What an agent without calls, outside tools and shared values needs. */
const depsOf = (fields: Pick<EngineDeps, "model"> & Partial<EngineDeps>): EngineDeps => ({
  costUsd: () => 0,
  whenRecorded: async () => undefined,
  openTools: async () => ({ tools: [], problems: [], close: async () => undefined }),
  startStep: async () => undefined,
  calls: {
    listed: [],
    find: () => Promise.reject(new Error("no agent is called here")),
    findTask: () => Promise.reject(new Error("no agent is called here")),
    callOutside: () => Promise.reject(new Error("no agent is called here")),
    send: () => {
      throw new Error("no agent is called here");
    },
  },
  shared: {
    find: async () => undefined,
    list: async () => [],
    whenShared: () => Promise.reject(new Error("nothing is shared here")),
  },
  ...fields,
});

const inputOf = (overrides: Partial<RunAgentInput>): RunAgentInput => ({
  taskId: "task_1",
  definition: DEFINITION,
  modelName: "shop/test",
  message: { messageId: "m1", role: "ROLE_USER", parts: [{ text: "order 7" }] },
  memory: [],
  recorded: [],
  budget: { steps: 10, toolCalls: 10, tokens: 10_000, costUsd: 1, depth: 5 },
  deadline: Date.now() + 600_000,
  toolOutputBytes: 64_000,
  leaseEpoch: 1,
  lineage: ["repo_1:Clerk"],
  parent: undefined,
  signal: new AbortController().signal,
  ...overrides,
});

const run = async (script: Script, overrides: Partial<RunAgentInput> = {}) => {
  const { model, requests } = scripted(script);
  const input = inputOf(overrides);
  const events: EngineEvent[] = [];
  for await (const event of runAgent(depsOf({ model, costUsd: () => 0.25 }), input)) {
    events.push(event);
  }
  const steps = events.flatMap((event) => (event.type === "step" ? [event.step] : []));
  return { events, steps, requests, last: events.at(-1) };
};

const failureCode = (event: EngineEvent | undefined): string | undefined =>
  event?.type === "failed" ? event.failure.code : undefined;

describe("a message with images", () => {
  const asked = (...parts: readonly JsonObject[]) =>
    run(byTurn([{ text: ["A cat"] }]), { message: { messageId: "m1", role: "ROLE_USER", parts } });
  const userOf = ({ requests }: Awaited<ReturnType<typeof run>>) => requests[0]?.messages.at(-1);

  test("shows them to the model beside its words", async () => {
    const user = userOf(await asked({ text: "what is this?" }, PICTURE));
    expect(user).toEqual({ role: "user", text: "what is this?\n[file a.png]", media: [SEEN] });
    const urlSafe = PNG.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
    expect(userOf(await asked({ ...PICTURE, raw: urlSafe, mediaType: "image/PNG; q=1" }))).toMatchObject({
      media: [SEEN],
    });
  });

  test.each<readonly [string, JsonObject]>([
    ["image/svg+xml", { ...PICTURE, mediaType: "image/svg+xml" }],
    ["no mediaType", { raw: PNG, filename: "a.png" }],
    ["something else than image/jpeg", { ...PICTURE, mediaType: "image/jpeg" }],
    ["it is empty", { ...PICTURE, raw: "" }],
    ["addresses are not fetched", { url: "https://example.com/a.png", mediaType: "image/png", filename: "a.png" }],
  ])("names one that cannot be shown (%s), and tells whoever follows the run", async (why, part) => {
    const answer = await asked(part);
    expect(userOf(answer)).toEqual({ role: "user", text: expect.stringContaining("[file a.png") });
    const [notice] = answer.events.flatMap((event) => (event.type === "notice" ? [event.notice] : []));
    expect(notice?.kind).toBe("problem");
    expect(notice?.message).toContain('The file "a.png" is not shown to the model: ');
    expect(notice?.message).toContain(why);
    const { events } = await run(byTurn([]), {
      message: { messageId: "m1", role: "ROLE_USER", parts: [part] },
      recorded: answer.steps,
    });
    expect(events).toEqual([{ type: "completed" }]);
  });

  test("says nothing of files that are shown, of text and of data, and of many that are not says how many", async () => {
    const shown = await asked({ text: "see" }, { data: { total: 7 } }, PICTURE);
    expect(shown.events.some(({ type }) => type === "notice")).toBe(false);
    const many = await asked(...Array.from({ length: 25 }, () => ({ url: "https://example.com/" })));
    const told = many.events.flatMap((event) => (event.type === "notice" ? [event.notice.message] : []));
    expect(told).toHaveLength(21);
    expect(told[0]).toMatch(/^A file without a name /);
    expect(told.at(-1)).toBe("5 more files of the message are not shown to the model.");
  });

  test("is a replay that diverged where another image is in its place", async () => {
    const { steps } = await asked(PICTURE);
    const message = { messageId: "m1", role: "ROLE_USER", parts: [{ ...PICTURE, raw: `${PNG.slice(0, -8)}AAAABBBB` }] };
    const { last } = await run(byTurn([]), { message, recorded: steps });
    expect(failureCode(last)).toBe("replay_diverged");
  });
});

describe("a run without interruption", () => {
  test("numbers its steps across turns and tools, and tells the model each result", async () => {
    const { steps, requests, last } = await run(byTurn(THREE_TURNS));
    expect(steps.map(({ position, kind, state }) => [position, kind, state])).toEqual([
      [1, "model", "done"],
      [2, "tool", "done"],
      [3, "model", "done"],
      [4, "tool", "done"],
      [5, "tool", "done"],
      [6, "model", "done"],
    ]);
    expect(requests.at(-1)?.messages.map(({ role }) => role)).toEqual([
      "system",
      "user",
      "assistant",
      "tool",
      "assistant",
      "tool",
    ]);
    expect(last).toEqual({ type: "completed" });
  });

  test("names an artifact after its step, begins it with append false and ends it once", async () => {
    const { events } = await run(byTurn(THREE_TURNS));
    const chunks = events.flatMap((event) => (event.type === "artifact" ? [event.chunk] : []));
    expect(chunks.filter(({ append }) => !append).map(({ artifactId }) => artifactId)).toEqual([
      "response-1",
      "artifact-2",
      "artifact-4",
      "artifact-5",
      "response-6",
    ]);
    expect(chunks.filter(({ lastChunk }) => lastChunk)).toHaveLength(5);
  });
});

describe("a replay", () => {
  test.each([0, 1, 2, 3, 4, 5, 6])(
    "with %i recorded steps does only the others, and gives the same steps",
    async (count) => {
      const whole = await run(byTurn(THREE_TURNS));
      const recorded = whole.steps.slice(0, count);
      const { steps, requests, last } = await run(byTurn(THREE_TURNS), { recorded });
      expect(steps).toEqual(whole.steps.slice(count));
      expect(requests).toHaveLength(whole.steps.slice(count).filter(({ kind }) => kind === "model").length);
      expect(requests.at(-1)?.messages).toEqual(requests.length === 0 ? undefined : whole.requests.at(-1)?.messages);
      expect(last).toEqual({ type: "completed" });
    },
  );

  test("takes a recorded tool error for the model's, without trying again", async () => {
    const script = byTurn([{ calls: [{ id: "x", name: "write_artifact", input: {} }] }, { text: ["Sorry"] }]);
    const whole = await run(script);
    expect(whole.steps[1]).toMatchObject({ kind: "tool", state: "failed" });
    const again = await run(script, { recorded: whole.steps.slice(0, 2) });
    expect(again.steps).toEqual(whole.steps.slice(2));
  });

  test.each<readonly [string, (step: StepRecord) => StepRecord]>([
    ["another input", (step) => ({ ...step, inputHash: "other" })],
    ["another kind", (step) => ({ ...step, kind: "input" })],
  ])("that comes to %s than was recorded fails instead of going on", async (_, change) => {
    const whole = await run(byTurn(THREE_TURNS));
    for (const at of [0, 1]) {
      const recorded = whole.steps.slice(0, 3).map((step, i) => (i === at ? change(step) : step));
      const { last, requests } = await run(byTurn(THREE_TURNS), { recorded });
      expect(failureCode(last)).toBe("replay_diverged");
      expect(requests).toEqual([]);
    }
  });

  test("notices that prompt, temperature, tools or the model of the agent's file are others than recorded", async () => {
    const { steps } = await run(byTurn(THREE_TURNS));
    const changes: readonly Partial<RunAgentInput>[] = [
      { message: { messageId: "m1", parts: [{ text: "order 8" }] } },
      { definition: { ...DEFINITION, temperature: 0.5 } },
      { definition: { ...DEFINITION, tools: ["write_artifact"] } },
      { definition: { ...DEFINITION, model: "other" } },
    ];
    for (const change of changes) {
      const { last } = await run(byTurn(THREE_TURNS), { ...change, recorded: steps.slice(0, 1) });
      expect(failureCode(last)).toBe("replay_diverged");
    }
  });
});

describe("a replay after a while", () => {
  const earlier = (answer: string) => [{ prompt: "Hello", answer }];
  test.each<readonly [string, Partial<RunAgentInput>]>([
    ["the model's name means another one now", { modelName: "shop/other" }],
    ["retention took what was remembered", { memory: earlier("") }],
  ])("goes on although %s", async (_, change) => {
    const before = { memory: earlier("Good day") };
    const whole = await run(byTurn(THREE_TURNS), before);
    const recorded = whole.steps.slice(0, 3);
    const { steps, requests, last } = await run(byTurn(THREE_TURNS), { ...before, ...change, recorded });
    expect(last).toEqual({ type: "completed" });
    expect(requests).toHaveLength(1);
    expect(steps.map(({ position }) => position)).toEqual([4, 5, 6]);
  });
});

describe("a model call", () => {
  test("waits until all steps before it are committed, so that a crash costs one call at most", async () => {
    const { model, requests } = scripted(byTurn(THREE_TURNS));
    const asked: number[] = [];
    let commit = (): void => undefined;
    const whenRecorded = (position: number): Promise<void> => {
      asked.push(position);
      return new Promise((resolve) => {
        commit = resolve;
      });
    };
    const events: EngineEvent[] = [];
    const done = (async () => {
      for await (const event of runAgent(depsOf({ model, whenRecorded }), inputOf({}))) events.push(event);
    })();
    for (const [position, calls] of [
      [2, 1],
      [5, 2],
    ] as const) {
      await expect.poll(() => asked.at(-1)).toBe(position);
      expect(requests).toHaveLength(calls);
      commit();
    }
    await done;
    expect(requests).toHaveLength(3);
    expect(asked).toEqual([2, 5]);
  });

  test("is not made when what came before could not be committed", async () => {
    const stop = new AbortController();
    const { model, requests } = scripted(byTurn(THREE_TURNS));
    const whenRecorded = async (): Promise<void> => {
      stop.abort(new Error("the lease is lost"));
      throw stop.signal.reason;
    };
    const all = async (): Promise<void> => {
      for await (const _ of runAgent(depsOf({ model, whenRecorded }), inputOf({ signal: stop.signal }))) {
        continue;
      }
    };
    await expect(all()).rejects.toThrow("the lease is lost");
    expect(requests).toHaveLength(1);
  });
});

describe("an answer that is too large to be recorded", () => {
  test("is paid for all the same: by the run, and out of what its caller lent", async () => {
    const parent = { attemptsLeft: 0 };
    const { events, steps, last } = await run(() => ({ text: ["x".repeat(14_000_000)] }), { parent });
    expect(failureCode(last)).toBe("model_answer_too_large");
    expect(steps).toEqual([]);
    const usage = { model: "test-1", inputTokens: 100, outputTokens: 10, cachedInputTokens: 0, costUsd: 0.25 };
    expect(events.filter(({ type }) => type === "usage")).toEqual([{ type: "usage", position: 1, usage }]);
    expect(last).toMatchObject({ left: { tokens: 9_890, costUsd: 0.75 } });
  });
});

describe("an answer that the deadline cuts", () => {
  /** A provider that begins to answer and then says no more, nor what it has counted. */
  const silent: typeof fetch = async (_url, init) => {
    const chunk = { id: "c", choices: [{ index: 0, delta: { role: "assistant", content: "x".repeat(80) } }] };
    const body = new ReadableStream({
      start: (controller) => {
        controller.enqueue(new TextEncoder().encode(`data: ${JSON.stringify(chunk)}\n\n`));
        init?.signal?.addEventListener("abort", () => controller.error(init.signal?.reason));
      },
    });
    return new Response(body, { headers: { "content-type": "text/event-stream" } });
  };

  test("is paid for by what was asked and written at the least, out of what its caller lent", async () => {
    const settings = { kind: "openai-compatible", name: "shop", baseUrl: "https://shop.test/v1" } as const;
    const model = createProviderModel({ fetch: silent }, settings);
    const costUsd = ({ inputTokens, outputTokens }: ModelUsage) => (inputTokens + outputTokens) / 1_000;
    const message = { messageId: "m1", parts: [{ text: "y".repeat(800) }] };
    const input = inputOf({ message, deadline: Date.now() + 300, parent: { attemptsLeft: 0 } });
    const events: EngineEvent[] = [];
    for await (const event of runAgent(depsOf({ model, costUsd }), input)) events.push(event);
    const usage = events.find((event) => event.type === "usage")?.usage;
    expect(usage).toMatchObject({ model: "shop/test", outputTokens: 10, cachedInputTokens: 0 });
    expect(usage?.inputTokens).toBeGreaterThanOrEqual(100);
    const spent = (usage?.inputTokens ?? 0) + 10;
    expect(usage?.costUsd).toBeCloseTo(spent / 1_000);
    const last = events.at(-1);
    expect(failureCode(last)).toBe("limit_reached");
    expect(last).toMatchObject({ left: { tokens: 10_000 - spent, costUsd: expect.closeTo(1 - spent / 1_000) } });
  });
});

describe("request_input", () => {
  const ASKED = {
    type: "input_required",
    waitsFor: { kind: "input", taskId: "task_1", position: 2 },
    parts: [{ text: "Which size?" }],
  };
  const script = byTurn([{ calls: [ask("q")] }, { text: ["Thanks"] }]);

  test("records that it asked, and ends with the question", async () => {
    const { steps, last } = await run(script);
    expect(steps[1]).toMatchObject({ position: 2, kind: "input", state: "started" });
    expect(last).toEqual(ASKED);
  });

  test("asks again without a second step when nobody has answered", async () => {
    const asked = await run(script);
    const again = await run(script, { recorded: asked.steps });
    expect(again.events).toEqual([ASKED]);
  });

  test("goes on with the caller's answer", async () => {
    const asked = await run(script);
    const answer = { messageId: "m2", role: "ROLE_USER", parts: [{ text: "XL" }] };
    const recorded = asked.steps.map((step) =>
      step.kind === "input" ? { ...step, state: "done" as const, output: answer } : step,
    );
    const { requests, last } = await run(script, { recorded });
    expect(requests).toHaveLength(1);
    expect(requests[0]?.messages.at(-1)).toEqual({
      role: "tool",
      results: [{ toolCallId: "q", toolName: "request_input", output: "The caller answered: XL", isError: false }],
    });
    expect(last).toEqual({ type: "completed" });
  });

  test("takes an image for an answer", async () => {
    const script = byTurn([{ calls: [ask("q")] }, { text: ["Thanks"] }]);
    const asked = await run(script);
    const recorded = asked.steps.map((step) =>
      step.kind === "input" ? { ...step, state: "done" as const, output: { parts: [PICTURE] } } : step,
    );
    const { requests } = await run(script, { recorded });
    const output = "The caller answered: [file a.png]";
    expect(requests[0]?.messages.at(-1)).toMatchObject({ results: [{ output, media: [SEEN] }] });
  });

  test("tells once of a file in the answer that the model is not shown", async () => {
    const script = byTurn([{ calls: [ask("q")] }, { text: ["Thanks"] }]);
    const asked = await run(script);
    const output = { parts: [{ url: "https://example.com/a.png" }] };
    const recorded = asked.steps.map((step) =>
      step.kind === "input" ? { ...step, state: "done" as const, output } : step,
    );
    const answered = await run(script, { recorded });
    const problem = { kind: "problem", message: expect.stringContaining("addresses are not fetched") };
    expect(answered.events[0]).toEqual({ type: "notice", notice: problem });
    const { events } = await run(script, { recorded: [...recorded, ...answered.steps] });
    expect(events).toEqual([{ type: "completed" }]);
  });

  test("lets the calls beside it come to their end first, and keeps their results", async () => {
    const beside = byTurn([{ calls: [write("a"), ask("q"), write("b")] }, { text: ["Thanks"] }]);
    const asked = await run(beside);
    expect(asked.steps.map(({ position, state }) => `${position} ${state}`).toSorted()).toEqual([
      "1 done",
      "2 done",
      "3 started",
      "4 done",
    ]);
    const recorded = asked.steps.map((step) =>
      step.kind === "input" ? { ...step, state: "done" as const, output: { parts: [] } } : step,
    );
    const { steps, last } = await run(beside, { recorded });
    expect(steps.map(({ position, kind }) => [position, kind])).toEqual([[5, "model"]]);
    expect(last).toEqual({ type: "completed" });
  });
});

describe("a tool call that cannot be", () => {
  test.each([
    [
      "write_artifact",
      ["request_input"],
      "This agent may not use it: write_artifact. Tools of this agent: request_input.",
    ],
    ["rm", [], "There is no such tool: rm. Tools of this agent: none."],
  ] as const)("of %s is told to the model as an error", async (name, tools, text) => {
    const script = byTurn([{ calls: [{ id: "x", name, input: {} }] }, { text: ["Sorry"] }]);
    const { requests, steps, events, last } = await run(script, { definition: { ...DEFINITION, tools } });
    expect(requests[1]?.messages.at(-1)).toEqual({
      role: "tool",
      results: [{ toolCallId: "x", toolName: name, output: text, isError: true }],
    });
    expect(steps[1]).toMatchObject({ kind: "tool", name, state: "failed" });
    expect(
      events.filter((event) => event.type === "artifact" && event.chunk.artifactId.startsWith("artifact")),
    ).toEqual([]);
    expect(last).toEqual({ type: "completed" });
  });
});

describe("an agent that promises a form of its output", () => {
  const definition: AgentDefinition = {
    ...DEFINITION,
    output: { type: "object", required: ["total"], properties: { total: { type: "number" } } },
  };
  const outputsOf = (events: readonly EngineEvent[]) =>
    events.flatMap((event) => (event.type === "artifact" && event.chunk.name === "output" ? [event.chunk] : []));

  test("asks the model for it, and gives the result as data beside the text", async () => {
    const { events, requests, last } = await run(byTurn([{ calls: [write("a")] }, { text: ['{"total"', ": 3}"] }]), {
      definition,
    });
    expect(requests.map(({ outputSchema }) => outputSchema)).toEqual([definition.output, definition.output]);
    expect(outputsOf(events)).toEqual([
      {
        artifactId: "output-3",
        name: "output",
        parts: [{ data: { total: 3 }, mediaType: "application/json" }],
        append: false,
        lastChunk: true,
      },
    ]);
    const text = events.flatMap((event) =>
      event.type === "artifact" && event.chunk.artifactId === "response-3" ? event.chunk.parts : [],
    );
    expect(text).toEqual([{ text: '{"total"' }, { text: ": 3}" }, { text: "" }]);
    expect(last).toEqual({ type: "completed" });
  });

  const REPAIRED = byTurn([{ text: ["three"] }, { text: ['{"total": 3}'] }]);

  test("lets the model mend its answer once, as a step of its own, and takes the first one back", async () => {
    const { events, steps, requests, last } = await run(REPAIRED, { definition });
    expect(steps.map(({ position, kind }) => [position, kind])).toEqual([
      [1, "model"],
      [2, "model"],
    ]);
    expect(requests[1]?.messages.slice(-2)).toEqual([
      { role: "assistant", text: "three", toolCalls: [] },
      { role: "user", text: expect.stringContaining("not one JSON value") },
    ]);
    const first = events.flatMap((event) =>
      event.type === "artifact" && event.chunk.artifactId === "response-1" ? [event.chunk] : [],
    );
    expect(first.at(-1)).toMatchObject({ parts: [{ text: "" }], append: false, lastChunk: true });
    expect(outputsOf(events).map(({ artifactId }) => artifactId)).toEqual(["output-2"]);
    expect(last).toEqual({ type: "completed" });
  });

  test("comes to the same end from any recorded step", async () => {
    const whole = await run(REPAIRED, { definition });
    for (const count of [1, 2]) {
      const { steps, events, last } = await run(REPAIRED, { definition, recorded: whole.steps.slice(0, count) });
      expect(steps).toEqual(whole.steps.slice(count));
      expect(outputsOf(events)).toEqual(outputsOf(whole.events));
      expect(last).toEqual(whole.last);
    }
  });

  test("fails as output_invalid when the mended answer does not fit either, and asks no third time", async () => {
    const { events, requests, last } = await run(() => ({ text: ['{"total": "3"}'] }), { definition });
    expect(requests).toHaveLength(2);
    expect(failureCode(last)).toBe("output_invalid");
    expect(outputsOf(events)).toEqual([]);
  });

  test("may not mend beyond its limits", async () => {
    const budget = { steps: 1, toolCalls: 10, tokens: 10_000, costUsd: 10, depth: 5 };
    const { requests, last } = await run(REPAIRED, { definition, budget });
    expect(requests).toHaveLength(1);
    expect(failureCode(last)).toBe("limit_reached");
  });
});

describe("limits", () => {
  const endless: Script = ({ turn }) => ({ text: ["Still at it"], calls: [write(`a${turn}`)] });
  const budget = { steps: 10, toolCalls: 10, tokens: 10_000, costUsd: 10, depth: 5 };

  test.each([
    ["maxSteps", { ...budget, steps: 2 }, 2],
    ["maxToolCalls", { ...budget, toolCalls: 2 }, 3],
    ["maxTokens", { ...budget, tokens: 220 }, 2],
    ["maxCostUsd", { ...budget, costUsd: 0.5 }, 2],
  ])("end the run with the name %s, and what was written stays", async (limit, limited, calls) => {
    const { requests, events, last } = await run(endless, { budget: limited });
    expect(requests).toHaveLength(calls);
    expect(failureCode(last)).toBe("limit_reached");
    expect(last?.type === "failed" ? last.failure.publicMessage : "").toContain(limit);
    expect(events.filter((event) => event.type === "artifact" && event.chunk.name?.startsWith("a"))).toHaveLength(2);
  });

  test("of steps and tool calls are the same for a run that was interrupted, wherever that was", async () => {
    for (const limited of [
      { ...budget, steps: 3 },
      { ...budget, toolCalls: 3 },
    ]) {
      const whole = await run(endless, { budget: limited });
      for (let count = 1; count <= whole.steps.length; count += 1) {
        const { steps, last } = await run(endless, { budget: limited, recorded: whole.steps.slice(0, count) });
        expect(steps).toEqual(whole.steps.slice(count));
        expect(last).toEqual(whole.last);
      }
    }
  });

  test("of time end a model that says nothing more", async () => {
    const { last } = await run(() => "hold", { deadline: Date.now() + 20 });
    expect(failureCode(last)).toBe("limit_reached");
    expect(last?.type === "failed" ? last.failure.publicMessage : "").toContain("timeoutSeconds");
  });
});

describe("an end that is none of the agent's", () => {
  test("an abort stops the model and gives no event: who aborted knows what becomes of the run", async () => {
    const stop = new AbortController();
    const reason = new Error("cancelled");
    const { model, requests } = scripted((request) => {
      queueMicrotask(() => stop.abort(reason));
      return request.turn === 1 ? "hold" : {};
    });
    const events = runAgent(depsOf({ model }), inputOf({ message: { parts: [] }, signal: stop.signal }));
    await expect(events.next()).rejects.toBe(reason);
    expect(requests[0]?.signal.aborted).toBe(true);
  });

  test("a provider's error says whether and when to try again", async () => {
    const overloaded = new AppError({
      code: "model_rate_limited",
      kind: "operational",
      message: "429",
      retryAfterMs: 2_000,
    });
    const { last } = await run(() => overloaded);
    expect(last).toMatchObject({
      type: "failed",
      failure: { code: "model_rate_limited", retryable: true, retryAfterMs: 2_000 },
    });
    const refused = new AppError({ code: "model_refused", kind: "user", message: "no such model" });
    expect((await run(() => refused)).last).toMatchObject({
      type: "failed",
      failure: { code: "model_refused", retryable: false },
    });
  });

  test("a filtered answer fails as such", async () => {
    const { last } = await run(byTurn([{ text: ["…"], finish: "content_filter" }]));
    expect(failureCode(last)).toBe("content_filtered");
  });
});
