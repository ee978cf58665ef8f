import {
  findBrokenPromises,
  givenSettings,
  startShaman,
  textMessage,
  whenRow,
  type Shaman,
  type TestOrg,
} from "@shaman/testkit";
import type { Json, JsonObject } from "@shaman/kernel";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";

type Call = { readonly name: string; readonly input: JsonObject };
type Turn = {
  readonly match?: JsonObject;
  readonly text?: string;
  readonly toolCalls?: readonly Call[];
  readonly error?: Json;
};

const call = (agent: string, message: string): Call => ({ name: "call_agent", input: { agent, message } });
const ask = (question: string): Call => ({ name: "request_input", input: { question } });
const write = (name: string, content = name): Call => ({ name: "write_artifact", input: { name, content } });
const share = (name: string, value: Json): Call => ({ name: "run_data_write", input: { name, value } });

/** An agent and its script, as files. YAML is a superset of JSON. */
const agent = (name: string, frontMatter: string, turns: readonly Turn[]): Record<string, string> => ({
  [`${name}.md`]: `---\nname: ${name}\ndescription: The ${name}\nmodel: scripted/${name}.yaml\ntools: [write_artifact, request_input, run_data_write, run_data_read]\n${frontMatter}\n---\nYou are ${name}.\n`,
  [`${name}.yaml`]: JSON.stringify({ turns }),
});
const exposed = (name: string, turns: readonly Turn[], more = ""): Record<string, string> =>
  agent(name, `exposed: true\n${more}`, turns);
const hidden = (name: string, turns: readonly Turn[], more = ""): Record<string, string> => agent(name, more, turns);

const endless = (toolCall: Call): readonly Turn[] => [{ text: "Again.", toolCalls: [toolCall] }];

const FILES = {
  ...exposed("Desk", [
    { match: { turn: 1 }, text: "I ask both.", toolCalls: [call("Stock", "check A-1"), call("Fraud", "check A-1")] },
    { match: { toolResult: "3 in stock" }, text: "Both answered." },
  ]),
  ...hidden("Stock", [{ text: "3 in stock" }]),
  ...hidden("Fraud", [
    { match: { turn: 1 }, toolCalls: [call("Deep", "look"), write("report.txt", "nothing found")] },
    { match: { turn: 2 }, text: "no fraud" },
  ]),
  ...hidden("Deep", [{ text: "deep enough" }]),
  ...exposed(
    "Strangers",
    [
      {
        match: { turn: 1 },
        toolCalls: [call("Secret", "hi"), call("Stok", "hi"), call("Nobody", "hi"), call("Outside", "hi")],
      },
      { match: { toolResult: "Did you mean Stock" }, text: "None of them." },
    ],
    "calls: [Outside]",
  ),
  ...exposed("Narcissus", endless(call("Narcissus", "again")), "limits: {maxSteps: 4}"),
  ...exposed("Ping", endless(call("Pong", "ping"))),
  ...exposed("Pong", endless(call("Ping", "pong"))),
  ...exposed("Boss", [
    { match: { turn: 1 }, toolCalls: [call("Middle", "order 7"), write("note.txt")] },
    { match: { toolResult: "size XL" }, text: "Ordered." },
  ]),
  ...hidden("Middle", [
    { match: { turn: 1 }, toolCalls: [call("Tailor", "order 7")] },
    { match: { toolResult: "XL" }, text: "It is size XL" },
  ]),
  ...hidden("Tailor", [
    { match: { turn: 1 }, toolCalls: [ask("Which size?")] },
    { match: { turn: 2, toolResult: { regex: "answered: (?P<size>\\w+)" } }, text: "{{size}}" },
  ]),
  ...exposed(
    "Cashier",
    [
      { match: { turn: 1 }, text: "I charge.", toolCalls: [write("charge", "100 EUR")] },
      { match: { toolResult: "was handed" }, text: "Charged." },
      { match: { toolResult: "refused" }, text: "Not charged." },
    ],
    "approval: [write_artifact]",
  ),
  ...exposed("CashierAbove", [
    { match: { turn: 1 }, toolCalls: [call("Cashier", "charge 100 EUR")] },
    { match: { turn: 2 }, text: "The cashier has answered." },
  ]),
  ...exposed("Scribe", [
    { match: { turn: 1 }, toolCalls: [share("order", { id: 7 })] },
    { match: { turn: 2 }, toolCalls: [share("order", { id: 7 }), share("order", { id: 8 }), call("Reader", "read")] },
    { match: { turn: 3, toolResult: "Scribe has shared another value" }, text: "As it should be." },
  ]),
  ...hidden("Reader", [
    {
      match: { turn: 1 },
      toolCalls: [
        { name: "run_data_read", input: { name: "order" } },
        { name: "run_data_read", input: {} },
      ],
    },
    { match: { toolResult: '{"id":7}' }, text: "It is 7" },
  ]),
  ...exposed("Patient", [{ match: { turn: 1 }, toolCalls: [call("Hang", "wait")] }]),
  ...hidden("Hang", [{ text: "Thinking", error: "hang" }]),
  ...exposed("Onlooker", [
    { match: { turn: 1 }, toolCalls: [call("Hasty", "hurry")] },
    { match: { toolResult: "timeoutSeconds" }, text: "It took too long." },
  ]),
  ...hidden("Hasty", [{ match: { turn: 1 }, toolCalls: [call("Hang", "wait")] }], "limits: {timeoutSeconds: 1}"),
  ...exposed("Careful", [
    { match: { turn: 1 }, toolCalls: [call("Broken", "try"), call("Greedy", "try")] },
    { match: { toolResult: { output: "Broken failed", isError: true } }, text: "One failed, one was stopped." },
  ]),
  ...hidden("Broken", [{ text: "Half", error: { status: 400 } }]),
  ...hidden("Greedy", endless(write("more")), "limits: {maxSteps: 3}"),
  ...exposed("Shallow", [{ toolCalls: [call("Stock", "x")] }], "limits: {maxDepth: 1}"),
  ...exposed(
    "TooDeep",
    [
      { match: { turn: 1 }, toolCalls: [call("Fraud", "x")] },
      { match: { turn: 2 }, text: "Fraud said no." },
    ],
    "limits: {maxDepth: 1}",
  ),
  ...exposed(
    "Parent",
    [
      { match: { turn: 1 }, toolCalls: [call("Greedy2", "x")] },
      { match: { turn: 2 }, text: "told" },
    ],
    "limits: {maxSteps: 6}",
  ),
  ...exposed(
    "Thrifty",
    [
      { match: { turn: 1 }, toolCalls: [call("Stock", "one")] },
      { match: { turn: 2 }, toolCalls: [call("Stock", "two")] },
      { match: { turn: 3 }, text: "Both." },
    ],
    "limits: {maxSteps: 6}",
  ),
  ...hidden("Greedy2", endless(write("more"))),
};

let shaman: Shaman;
let org: TestOrg;
beforeAll(async () => {
  shaman = await startShaman();
  org = await shaman.givenOrg(FILES);
  await org.addRepository("others", {
    ...hidden("Secret", [{ text: "never" }]),
    ...exposed("Outside", [{ text: "from outside" }]),
  });
});
afterAll(() => shaman.close());
afterEach(async () => {
  expect(await findBrokenPromises(shaman.database, org.orgId)).toEqual([]);
});

// oxlint-disable-next-line typescript/no-explicit-any -- a test looks into answers of many shapes
const taskOf = (answer: { readonly json: any }) => answer.json.result?.task ?? answer.json;
const send = async (name: string, params: unknown) =>
  taskOf(await shaman.rpc(org, { agent: name, method: "SendMessage", params }));
const start = (name: string) => send(name, textMessage(`go ${name}`));
const reply = (name: string, task: { id: string; contextId: string }, parts: Json) =>
  shaman.rpc(org, {
    agent: name,
    method: "SendMessage",
    params: textMessage("", { taskId: task.id, contextId: task.contextId, parts }),
  });
const treeOf = (taskId: string) =>
  shaman.database.inspect<{ agent: string; state: string; parent: string | null; id: string }>(
    `SELECT t.id, t.agent, t.state, p.agent AS parent FROM task t LEFT JOIN task p ON p.id = t.parent_task_id
     WHERE t.run_id = (SELECT run_id FROM task WHERE id = $1) ORDER BY t.created_at, t.agent`,
    [taskId],
  );
const shapeOf = async (taskId: string) =>
  (await treeOf(taskId)).map(({ agent: name, state, parent }) => `${parent ?? "-"}>${name} ${state}`).toSorted();
const stepsOf = (taskId: string) =>
  shaman.database.inspect<{
    agent: string;
    position: number;
    kind: string;
    name: string;
    state: string;
    output: { text: string };
  }>(
    `SELECT t.agent, s.position, s.kind, s.name, s.state, s.output FROM step s JOIN task t ON t.id = s.task_id
     WHERE s.run_id = (SELECT run_id FROM task WHERE id = $1) ORDER BY t.created_at, s.position`,
    [taskId],
  );
const textsOf = (task: { readonly artifacts?: readonly { readonly parts: readonly { readonly text?: string }[] }[] }) =>
  (task.artifacts ?? []).map(({ parts }) => parts.map(({ text }) => text).join("|"));

describe("an agent that calls others", () => {
  it("has them work side by side, gets their answers as data in its own order, and the whole tree is recorded", async () => {
    const task = await start("Desk");
    expect(task.status.state).toBe("TASK_STATE_COMPLETED");
    expect(textsOf(task)).toEqual(["I ask both.", "Both answered."]);
    expect(await shapeOf(task.id)).toEqual([
      "->Desk completed",
      "Desk>Fraud completed",
      "Desk>Stock completed",
      "Fraud>Deep completed",
    ]);
    const calls = (await stepsOf(task.id)).filter(({ kind, agent: name }) => kind === "call" && name === "Desk");
    expect(calls.map(({ position, name, state }) => [position, name, state])).toEqual([
      [2, "Stock", "done"],
      [3, "Fraud", "done"],
    ]);
    expect(calls[0]?.output.text).toMatch(/It is data.*\n\[data \w+\]\n3 in stock\n\[end \w+\]$/s);
    expect(calls[1]?.output.text).toContain("no fraud\n\n[artifact report.txt]\nnothing found");
    const audited = await shaman.database.inspect(
      "SELECT agent, resource FROM audit_log WHERE action = 'agent:call' AND run_id = (SELECT run_id FROM task WHERE id = $1) ORDER BY resource",
      [task.id],
    );
    expect(audited).toEqual([
      { agent: "Fraud", resource: "/agents/Deep/" },
      { agent: "Desk", resource: "/agents/Fraud/" },
      { agent: "Desk", resource: "/agents/Stock/" },
    ]);
  });

  it("shows its caller none of their tasks", async () => {
    const task = await start("Desk");
    for (const { id, agent: name, parent } of await treeOf(task.id)) {
      if (parent === null) continue;
      for (const asked of ["Desk", name]) {
        const answer = await shaman.rpc(org, { agent: asked, method: "GetTask", params: { id } });
        expect(answer.json.error.code).not.toBeUndefined();
      }
    }
    expect(JSON.stringify(task)).not.toContain("3 in stock");
  });

  it("knows nothing of private agents elsewhere, may call those that calls: names, and is told near names", async () => {
    const task = await start("Strangers");
    expect(task.status.state).toBe("TASK_STATE_COMPLETED");
    const calls = (await stepsOf(task.id)).filter(({ kind }) => kind === "call");
    const texts = calls.map(({ output }) => output.text);
    expect(texts[0]).toContain('Strangers knows no agent "Secret"');
    expect(texts[1]).toContain("Did you mean Stock?");
    expect(texts[2]?.replace("Nobody", "Secret").replace(/ Did you mean.*\?/, "")).toBe(
      texts[0]?.replace(/ Did you mean.*\?/, ""),
    );
    expect(texts[3]).toContain("from outside");
    expect(await shapeOf(task.id)).toEqual(["->Strangers completed", "Strangers>Outside completed"]);
  });

  it("that fail is told of it and may go on; one of them that hits its own limit leaves the others theirs", async () => {
    const task = await start("Careful");
    expect(task.status.state).toBe("TASK_STATE_COMPLETED");
    expect(await shapeOf(task.id)).toEqual(["->Careful completed", "Careful>Broken failed", "Careful>Greedy failed"]);
    const greedy = (await stepsOf(task.id)).find(({ name }) => name === "Greedy");
    expect(greedy?.output.text).toContain("maxSteps");
  });
});

describe("an agent that gives up while one that it called is at work", () => {
  it("leaves no open task behind when its caller goes on without it", async () => {
    const task = await start("Onlooker");
    expect(task.status.state).toBe("TASK_STATE_COMPLETED");
    const states = await shapeOf(task.id);
    expect(states).toEqual([
      "->Onlooker completed",
      expect.stringMatching(/^Hasty>Hang (canceled|failed)$/),
      "Onlooker>Hasty failed",
    ]);
  });
});

describe("an endless chain of calls", () => {
  it("of an agent to itself starts no task, and ends at the run's limit", async () => {
    const task = await start("Narcissus");
    expect(task.status).toMatchObject({
      state: "TASK_STATE_FAILED",
      message: { parts: [{ text: expect.stringContaining("maxSteps") }] },
    });
    expect(await shapeOf(task.id)).toEqual(["->Narcissus failed"]);
    expect(textsOf(task)).toHaveLength(4);
  });

  it("of two to each other goes one call deep, and ends at a limit", async () => {
    const task = await start("Ping");
    expect(task.status.state).toBe("TASK_STATE_FAILED");
    const shape = await shapeOf(task.id);
    expect(shape).toContain("->Ping failed");
    expect(new Set(shape)).toEqual(new Set(["->Ping failed", "Ping>Pong failed"]));
    const [run] = await shaman.database.inspect<{ steps: number }>(
      "SELECT count(*)::integer AS steps FROM step WHERE kind = 'model' AND run_id = (SELECT run_id FROM task WHERE id = $1)",
      [task.id],
    );
    expect(run?.steps).toBeLessThanOrEqual(30);
  });
});

describe("the budget", () => {
  it("of depth ends the task that goes too deep, by name", async () => {
    const shallow = await start("Shallow");
    expect(await shapeOf(shallow.id)).toContain("Shallow>Stock completed");
    const task = await start("TooDeep");
    expect(task.status.state).toBe("TASK_STATE_COMPLETED");
    expect(await shapeOf(task.id)).toEqual(["->TooDeep completed", "TooDeep>Fraud failed"]);
    expect((await stepsOf(task.id)).find(({ name }) => name === "Fraud")?.output.text).toContain("maxDepth");
  });

  it("of steps holds for the whole tree, and leaves the caller one to conclude with", async () => {
    const task = await start("Parent");
    expect(task.status.state).toBe("TASK_STATE_COMPLETED");
    const models = (await stepsOf(task.id)).filter(({ kind }) => kind === "model");
    expect(models.length).toBe(6);
    expect(models.filter(({ agent: name }) => name === "Parent")).toHaveLength(2);
  });

  it("comes back as far as a called agent has not used it, for the next one", async () => {
    const task = await start("Thrifty");
    expect(task.status.state).toBe("TASK_STATE_COMPLETED");
    expect(await shapeOf(task.id)).toEqual([
      "->Thrifty completed",
      "Thrifty>Stock completed",
      "Thrifty>Stock completed",
    ]);
  });

  it("of the organization's month refuses a run before it costs anything, and says which limit it was", async () => {
    const poor = await shaman.givenOrg(FILES);
    await givenSettings(shaman, poor, { spend: { monthlyUsd: 0 } });
    const task = taskOf(await shaman.rpc(poor, { agent: "Desk", method: "SendMessage", params: textMessage("go") }));
    expect(task.status).toMatchObject({
      state: "TASK_STATE_FAILED",
      message: { parts: [{ text: expect.stringContaining("spend.monthlyUsd") }] },
    });
    const steps = await shaman.database.inspect("SELECT 1 FROM step WHERE org_id = $1", [poor.orgId]);
    expect(steps).toEqual([]);
  });
});

describe("a question of a called agent", () => {
  it("is asked of the caller, whose answer reaches the step that asked", async () => {
    const asked = await start("Boss");
    expect(asked.status).toMatchObject({
      state: "TASK_STATE_INPUT_REQUIRED",
      message: { parts: [{ text: "Which size?" }], taskId: asked.id },
    });
    expect(await shapeOf(asked.id)).toEqual([
      "->Boss input_required",
      "Boss>Middle input_required",
      "Middle>Tailor input_required",
    ]);
    const [run] = await shaman.database.inspect(
      "SELECT state, suspended_on, lease_until, worker FROM run WHERE root_task_id = $1",
      [asked.id],
    );
    expect(run).toEqual({ state: "suspended", suspended_on: "input", lease_until: null, worker: null });
    const task = taskOf(await reply("Boss", asked, [{ text: "XL" }]));
    expect(task.status.state).toBe("TASK_STATE_COMPLETED");
    expect(textsOf(task)).toContain("Ordered.");
    expect(await shapeOf(asked.id)).toEqual(["->Boss completed", "Boss>Middle completed", "Middle>Tailor completed"]);
    const steps = await stepsOf(asked.id);
    expect(steps.filter(({ kind }) => kind === "model")).toHaveLength(6);
    expect(steps.filter(({ kind }) => kind === "call")).toHaveLength(2);
  });
});

describe("a tool that waits for approval", () => {
  // oxlint-disable-next-line typescript/no-explicit-any -- a part of an A2A Message
  const approvalOf = (task: any) => task.status.message.parts[1].data.approval;
  const decide = (name: string, task: { id: string; contextId: string }, approval: JsonObject) =>
    reply(name, task, [{ data: { approval } }]);

  it.each(["Cashier", "CashierAbove"])("runs once a person has approved exactly this call, at %s", async (name) => {
    const asked = await start(name);
    expect(asked.status.state).toBe("TASK_STATE_INPUT_REQUIRED");
    const approval = approvalOf(asked);
    expect(approval).toMatchObject({ agent: "Cashier", tool: "write_artifact", arguments: { content: "100 EUR" } });
    expect((await stepsOf(asked.id)).filter(({ kind }) => kind === "tool")).toEqual([]);
    const task = taskOf(await decide(name, asked, { id: approval.id, decision: "approve" }));
    expect(task.status.state).toBe("TASK_STATE_COMPLETED");
    const steps = (await stepsOf(asked.id)).filter(({ agent: who }) => who === "Cashier");
    expect(steps.map(({ kind, state }) => `${kind} ${state}`)).toEqual([
      "model done",
      "approval done",
      "tool done",
      "model done",
    ]);
  });

  it("does not run when a person refuses, whose reason the model is told", async () => {
    const asked = await start("Cashier");
    const refusal = { id: approvalOf(asked).id, decision: "refuse", reason: "too dear" };
    const task = taskOf(await decide("Cashier", asked, refusal));
    expect(textsOf(task)).toEqual(["I charge.", "Not charged."]);
    const tool = (await stepsOf(asked.id)).find(({ kind }) => kind === "tool");
    expect(tool).toMatchObject({ state: "failed", output: { text: expect.stringContaining("too dear") } });
  });

  it("is refused by words alone, whatever they say, and untouched by a decision about something else", async () => {
    const asked = await start("Cashier");
    const wrong = await decide("Cashier", asked, { id: "approval_00000000000000000000000000", decision: "approve" });
    expect(wrong.json.error).toBeDefined();
    expect((await stepsOf(asked.id)).filter(({ kind }) => kind === "tool")).toEqual([]);
    const task = taskOf(await reply("Cashier", asked, [{ text: "approve" }]));
    expect(textsOf(task)).toEqual(["I charge.", "Not charged."]);
  });
});

describe("values that agents of a run share", () => {
  it("are written once, read with who wrote them, and never changed", async () => {
    const task = await start("Scribe");
    expect(textsOf(task)).toContain("As it should be.");
    const values = await shaman.database.inspect(
      "SELECT name, value, agent FROM run_data WHERE run_id = (SELECT run_id FROM task WHERE id = $1)",
      [task.id],
    );
    expect(values).toEqual([{ name: "order", value: { id: 7 }, agent: "Scribe" }]);
    const reads = (await stepsOf(task.id)).filter(({ agent: name, kind }) => name === "Reader" && kind === "tool");
    expect(reads.map(({ output }) => output.text)).toEqual([
      expect.stringContaining("the agent Scribe"),
      "order, by Scribe",
    ]);
  });
});

describe("cancel", () => {
  it("goes down the tree, and every task of it ends", async () => {
    const task = await send("Patient", { ...textMessage("go"), configuration: { returnImmediately: true } });
    await whenRow(
      shaman.database,
      `SELECT 1 FROM run_event e JOIN task t ON t.id = e.task_id WHERE t.agent = 'Hang' AND e.type = 'task.artifact'
       AND t.run_id = (SELECT run_id FROM task WHERE id = $1)`,
      [task.id],
    );
    const answer = await shaman.rpc(org, { agent: "Patient", method: "CancelTask", params: { id: task.id } });
    expect(answer.json.result.status.state).toBe("TASK_STATE_CANCELED");
    expect(await shapeOf(task.id)).toEqual(["->Patient canceled", "Patient>Hang canceled"]);
  });
});
