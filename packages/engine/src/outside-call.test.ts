import type { ExternalOutcome, ExternalProgress } from "@shaman/a2a-wire";
import { AppError, ok } from "@shaman/kernel";
import type { Model, ModelEvent, ModelRequest } from "@shaman/llm";
import type { StepRecord } from "@shaman/runs";
import { describe, expect, test } from "vitest";
import type { OutsideCall } from "./agent-calls.ts";
import { agentDefinition } from "./agent.scene.ts";
import type { EngineEvent } from "./engine-event.ts";
import { runAgent } from "./run-agent.ts";
import type { EngineDeps, RunAgentInput } from "./run-state.ts";

const DEFINITION = agentDefinition({ name: "Clerk", calls: ["Partner"] });

/** A model that calls the partner once and then concludes; it keeps what it was told. */
const createModel = () => {
  const told: string[] = [];
  const stream = async function* ({ messages }: ModelRequest): AsyncGenerator<ModelEvent, void, undefined> {
    const last = messages.at(-1);
    if (last?.role === "tool") told.push(...last.results.map(({ output }) => output));
    const call = { id: "c", name: "call_agent", input: { agent: "Partner", message: "charge 100 EUR" } };
    yield {
      type: "done",
      text: last?.role === "tool" ? "Done." : "",
      toolCalls: last?.role === "tool" ? [] : [call],
      usage: { inputTokens: 1, outputTokens: 1, cachedInputTokens: 0 },
      finishReason: "stop",
      model: "test-1",
    };
  };
  const model: Model = { stream };
  return { model, told };
};

const never = () => Promise.reject(new Error("not here"));

const attempt = async (
  outcome: ExternalOutcome,
  overrides: Partial<Pick<RunAgentInput, "leaseEpoch" | "recorded" | "toolOutputBytes">> = {},
  progress: readonly ExternalProgress[] = [],
) => {
  const { model, told } = createModel();
  const made: OutsideCall[] = [];
  const target = { kind: "url", url: "https://x.test/", name: "Partner" } as const;
  const deps: EngineDeps = {
    model,
    costUsd: () => 0,
    whenRecorded: async () => undefined,
    openTools: async () => ({ tools: [], problems: [], close: async () => undefined }),
    startStep: async () => undefined,
    calls: {
      listed: [{ name: "Partner", description: "x", outside: true }],
      find: async () => ok({ kind: "outside", outside: { name: "Partner", server: "Partner", target } }),
      findTask: never,
      send: () => {
        throw new Error("not here");
      },
      callOutside: async (call) => {
        made.push(call);
        for (const one of progress) call.tell(one);
        return outcome;
      },
    },
    shared: { find: async () => undefined, list: async () => [], whenShared: never },
  };
  const events: EngineEvent[] = [];
  for await (const event of runAgent(deps, {
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
    lineage: [],
    parent: undefined,
    signal: new AbortController().signal,
    ...overrides,
  })) {
    events.push(event);
  }
  // As the worker records them: the last one of a position counts, with the input of the first.
  const steps = new Map<number, StepRecord>();
  for (const event of events) {
    if (event.type === "step") steps.set(event.step.position, { ...steps.get(event.step.position), ...event.step });
  }
  return { steps: [...steps.values()], told, made, events, last: events.at(-1) };
};

const BUSY: ExternalOutcome = {
  kind: "error",
  error: new AppError({
    code: "external_busy",
    kind: "operational",
    message: "The agent is busy.",
    retryAfterMs: 5_000,
  }),
  delivered: "no",
  remote: {},
};

describe("an outside agent that refuses a message for a while", () => {
  test("suspends the run until then", async () => {
    const { last, told } = await attempt(BUSY);
    expect(last).toMatchObject({ type: "failed", failure: { retryable: true, retryAfterMs: 5_000 } });
    expect(told).toEqual([]);
  });

  test("gets it again from the attempt right after, and from no later one, which may not know of a message in between", async () => {
    const { steps: recorded } = await attempt(BUSY, { leaseEpoch: 4 });
    const next = await attempt(BUSY, { leaseEpoch: 5, recorded });
    expect(next.made).toHaveLength(1);
    expect(next.made[0]?.reentry).toBeUndefined();
    const later = await attempt(BUSY, { leaseEpoch: 6, recorded });
    expect(later.made[0]?.reentry).toEqual({});
  });
});

test("a refusal of a call that is entered again says nothing of what was sent before: its outcome is unknown", async () => {
  const { steps } = await attempt(BUSY);
  const recorded = steps.map((step) => (step.kind === "call" ? { ...step, output: undefined } : step));
  const { told, steps: after, last } = await attempt(BUSY, { leaseEpoch: 2, recorded });
  expect(last).toEqual({ type: "completed" });
  expect(told[0]).toContain("its outcome is unknown");
  expect(after.find(({ kind }) => kind === "call")?.state).toBe("unknown");
});

describe("what an outside agent writes while it is called", () => {
  const remote = { taskId: "theirs" };
  const written = (text: string, append: boolean): ExternalProgress => ({
    kind: "artifact",
    remote,
    artifact: { artifactId: "a", name: "answer.txt", parts: [{ text }] },
    append,
    lastChunk: false,
  });
  const DONE: ExternalOutcome = { kind: "task", state: "completed", artifacts: [], remote };
  const noticesOf = (events: readonly EngineEvent[]) =>
    events.flatMap((event) => (event.type === "notice" ? [event.notice] : []));
  const textOf = (events: readonly EngineEvent[]) =>
    noticesOf(events)
      .map(({ message }) => message)
      .join("");

  test("is told as it comes, each piece once, also where the whole comes again and again", async () => {
    const streamed = await attempt(DONE, {}, [written("Good ", false), written("morning", true)]);
    const texts = noticesOf(streamed.events).filter(({ kind }) => kind === "text");
    expect(texts[0]).toMatchObject({
      tool: "Partner",
      server: "Partner",
      position: 2,
      artifact: "answer.txt",
      append: false,
    });
    expect(textOf(streamed.events)).toBe("Good morning");
    const polled = await attempt(DONE, {}, [
      written("Good ", false),
      written("Good ", false),
      written("Good morning", false),
    ]);
    expect(textOf(polled.events)).toBe("Good morning");
    const begunAgain = await attempt(DONE, {}, [written("Bad", false), written("Good", false)]);
    expect(noticesOf(begunAgain.events).map(({ append }) => append)).toEqual([false, false]);
  });

  test("comes after word that it was not there and is tried again", async () => {
    const at = { url: "https://x.test/a2a", binding: "JSONRPC", version: "1.0" } as const;
    const { events } = await attempt(DONE, {}, [
      { kind: "unreachable", remote: {}, at },
      { kind: "unreachable", remote: {} },
    ]);
    expect(noticesOf(events)).toMatchObject([
      { level: "warning", message: "JSONRPC 1.0 at https://x.test/a2a is not there; it is tried again" },
      { level: "warning", message: "the server of its card is not there; it is tried again" },
    ]);
  });

  test("is shown as far as a model is given it, and the cut is told", async () => {
    const many = Array.from({ length: 50 }, (_, i) => written("x".repeat(10), i > 0));
    const { events, steps } = await attempt(DONE, { toolOutputBytes: 105 }, many);
    expect(textOf(events)).toBe(`${"x".repeat(105)}\n[what follows of its text is not shown here]`);
    // The id of its task comes before anything else of it.
    expect(events.findIndex((event) => event.type === "notice")).toBeGreaterThan(
      events.findIndex(
        (event) => event.type === "step" && JSON.stringify(event.step.output) === JSON.stringify({ remote }),
      ),
    );
    expect(steps.find(({ kind }) => kind === "call")?.state).toBe("done");
  });
});
