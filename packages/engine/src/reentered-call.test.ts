import { ok } from "@shaman/kernel";
import type { Model, ModelEvent } from "@shaman/llm";
import type { StepRecord } from "@shaman/runs";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Callee, ChildCall } from "./agent-calls.ts";
import { agentDefinition } from "./agent.scene.ts";
import type { EngineEvent } from "./engine-event.ts";
import { runAgent } from "./run-agent.ts";
import type { EngineDeps } from "./run-state.ts";

const DEFINITION = agentDefinition({ name: "Desk" });
const START = Date.parse("2026-11-25T10:00:00Z");
const MINUTE = 60_000;

/** Calls the agent, and concludes with what it is told. */
const model: Model = {
  stream: async function* ({ messages }): AsyncGenerator<ModelEvent, void, undefined> {
    const last = messages.at(-1);
    const call = { id: "c", name: "call_agent", input: { agent: "Stock", message: "count" } };
    yield {
      type: "done",
      text: last?.role === "tool" ? (last.results[0]?.output ?? "") : "",
      toolCalls: last?.role === "tool" ? [] : [call],
      usage: { inputTokens: 1, outputTokens: 1, cachedInputTokens: 0 },
      finishReason: "stop",
      model: "test-1",
    };
  },
};
const never = () => Promise.reject(new Error("not here"));

/** One attempt, in which the called agent breaks off: what that was asked, and the steps as the worker then has them. */
const attempt = async (input: {
  readonly timeoutSeconds?: number;
  readonly deadline: number;
  readonly recorded?: readonly StepRecord[];
  /** Whether it is offered agents to call. */
  readonly listed?: boolean;
}) => {
  const { timeoutSeconds, deadline, recorded = [], listed = true } = input;
  const asked: ChildCall[] = [];
  const limits = timeoutSeconds === undefined ? {} : { timeoutSeconds };
  const callee: Callee = { name: "Stock", repositoryId: "repo_1", path: "Stock", commit: "c1", limits };
  const deps: EngineDeps = {
    model,
    costUsd: () => 0,
    whenRecorded: async () => undefined,
    openTools: async () => ({ tools: [], problems: [], close: async () => undefined }),
    startStep: async () => undefined,
    calls: {
      listed: listed ? [{ name: "Stock", description: "x" }] : [],
      find: async () => ok({ kind: "agent", callee }),
      findTask: async () => ({ state: "working", statusMessage: null, tokens: 0, costUsd: 0 }),
      // oxlint-disable-next-line require-yield -- the stream breaks before its first event
      send: async function* (call) {
        asked.push(call);
        throw new Error("the stream broke");
      },
      callOutside: never,
    },
    shared: { find: async () => undefined, list: async () => [], whenShared: never },
  };
  const steps = new Map(recorded.map((step) => [step.position, step]));
  const told: EngineEvent[] = [];
  const all = async (): Promise<string> => {
    const events = runAgent(deps, {
      taskId: "task_1",
      definition: DEFINITION,
      modelName: "shop/test",
      message: { messageId: "m1", role: "ROLE_USER", parts: [{ text: "order 7" }] },
      memory: [],
      recorded,
      budget: { steps: 10, toolCalls: 10, tokens: 10_000, costUsd: 1, depth: 5 },
      deadline,
      toolOutputBytes: 64_000,
      leaseEpoch: 1,
      lineage: [],
      parent: undefined,
      signal: new AbortController().signal,
    });
    for await (const event of events) {
      if (event.type === "step") steps.set(event.step.position, event.step);
      told.push(event);
    }
    return "ended";
  };
  const how = await all().catch((error: unknown) => String(error));
  return { how, last: told.at(-1), deadline: asked[0]?.deadline, steps: [...steps.values()] };
};

beforeEach(() => vi.useFakeTimers({ toFake: ["Date"], now: START }));
afterEach(() => vi.useRealTimers());

test("a called agent that is entered again has its own time anew, and never more than its caller has left", async () => {
  const deadline = START + 2 * MINUTE;
  const first = await attempt({ timeoutSeconds: 60, deadline });
  expect(first).toMatchObject({ how: "Error: the stream broke", deadline: START + MINUTE });
  // The worker died, and for longer than the called agent may take nobody worked on it.
  vi.setSystemTime(START + 65_000);
  const second = await attempt({ timeoutSeconds: 60, deadline, recorded: first.steps });
  expect(second.deadline).toBe(deadline);
  vi.setSystemTime(START + 3 * 24 * 60 * MINUTE);
  const asked = { timeoutSeconds: 60, deadline: START + 3 * 24 * 60 * MINUTE + 2 * MINUTE };
  const third = await attempt({ ...asked, recorded: first.steps });
  expect(third.deadline).toBe(START + 3 * 24 * 60 * MINUTE + MINUTE);
});

test.each([undefined, 3_600])("with timeoutSeconds %s its caller's deadline is its own", async (timeoutSeconds) => {
  const deadline = START + 10 * MINUTE;
  const limit = timeoutSeconds === undefined ? {} : { timeoutSeconds };
  const first = await attempt({ ...limit, deadline });
  expect(first.deadline).toBe(deadline);
  vi.setSystemTime(START + MINUTE);
  expect((await attempt({ ...limit, deadline, recorded: first.steps })).deadline).toBe(deadline);
});

test("a call on record stays one although the agent has nobody to call any more, and the other way round", async () => {
  const deadline = START + 10 * MINUTE;
  const output = { text: "3 in stock", isError: false };
  const first = await attempt({ deadline });
  const recorded = first.steps.map((step) =>
    step.kind === "call" ? { ...step, state: "done" as const, output } : step,
  );
  const after = await attempt({ deadline, recorded, listed: false });
  expect(after).toMatchObject({ how: "ended", last: { type: "completed" }, deadline: undefined });
  expect(after.steps.at(-1)).toMatchObject({ position: 3, kind: "model", output: { text: "3 in stock" } });

  const before = await attempt({ deadline, listed: false });
  expect(before.steps[1]).toMatchObject({ kind: "tool", name: "call_agent", state: "failed" });
  const later = await attempt({ deadline, recorded: before.steps.slice(0, 2) });
  expect(later).toMatchObject({ how: "ended", last: { type: "completed" }, deadline: undefined });
});
