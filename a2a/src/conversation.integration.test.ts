import { givenKey, givenSettings, kindsOf, openStream, startShaman, streamedText, textMessage } from "@shaman/testkit";
import type { HttpAnswer, Shaman, TestOrg } from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const TRACE = "urn:shaman:a2a:trace:v1";

const agentFile = (name: string, more = ""): string =>
  `---\nname: ${name}\ndescription: ${name} for tests\nexposed: true\n${more}model: scripted/${name}.yaml\n---\nYou are ${name}.\n`;

const CHUNKS = Array.from({ length: 24 }, (_, i) => `piece ${i}; `);

const FILES = {
  "Echo.md": agentFile("Echo"),
  "Echo.yaml": "turns:\n  - text: ['You said ', '{{prompt}}']\n",
  "Asker.md": agentFile("Asker", "tools: [request_input]\n"),
  "Asker.yaml": `turns:
  - match: {toolResult: {tool: request_input, output: {regex: "answered: (?P<a>.*)"}}}
    text: ["You chose ", "{{a}}."]
  - text: "A moment. "
    toolCalls: [{name: request_input, input: {question: "Which colour?"}}]
`,
  "Twice.md": agentFile("Twice", "tools: [request_input]\n"),
  "Twice.yaml": `turns:
  - match: {turn: 1}
    toolCalls: [{name: request_input, input: {question: "First?"}}]
  - match: {turn: 2}
    toolCalls: [{name: request_input, input: {question: "Second?"}}]
  - match: {toolResult: {tool: request_input, output: {regex: "answered: (?P<a>.*)"}}}
    text: "Last was {{a}}."
`,
  "Slow.md": agentFile("Slow"),
  "Slow.yaml": `turns:\n  - text: ${JSON.stringify(CHUNKS)}\n    delayMs: 40\n`,
  "Hang.md": agentFile("Hang"),
  "Hang.yaml": "turns:\n  - text: [Working on it]\n    error: hang\n",
  "Broken.md": agentFile("Broken"),
  "Broken.yaml": "turns:\n  - text: [Half an ans]\n    error: {status: 400}\n",
};

let shaman: Shaman;
let org: TestOrg;
beforeAll(async () => {
  shaman = await startShaman();
  org = await shaman.givenOrg(FILES);
});
afterAll(() => shaman.close());

const call = (agent: string, method: string, params: unknown, headers: Record<string, string> = {}) =>
  shaman.rpc(org, { agent, method, params, headers });
const send = (agent: string, params: unknown) => call(agent, "SendMessage", params);
const stream = (agent: string, params: unknown, headers: Record<string, string> = {}) =>
  openStream(shaman, org, { agent, params, headers });
const taskOf = (answer: HttpAnswer) => {
  expect(answer.json.result?.task, answer.text).toBeDefined();
  return answer.json.result.task;
};
const errorOf = (answer: HttpAnswer) => {
  expect(answer.json.error, answer.text).toBeDefined();
  return answer.json.error;
};
const now = { configuration: { returnImmediately: true } };
const ask = async () => taskOf(await send("Asker", textMessage("paint")));
const reply = (task: { readonly id: string; readonly contextId: string }, text: string, fields = {}, rest = {}) =>
  textMessage(text, { taskId: task.id, contextId: task.contextId, ...fields }, rest);
const texts = (task: { readonly artifacts: readonly { readonly parts: readonly { readonly text: string }[] }[] }) =>
  task.artifacts.map(({ parts }) => parts.map(({ text }) => text).join("|"));

/** Event numbers of the task's run without a gap, and one terminal state with nothing after it (guarantee 4). */
const expectSoundHistory = async (taskId: string): Promise<void> => {
  const events = await shaman.database.inspect<{ seq: number; type: string; state: string | null }>(
    `SELECT seq, type, payload->>'state' AS state FROM run_event
     WHERE run_id = (SELECT run_id FROM task WHERE id = $1) ORDER BY seq`,
    [taskId],
  );
  expect(events.map(({ seq }) => seq)).toEqual(events.map((_, i) => i + 1));
  const ends = events.filter(({ state }) => /completed|failed|canceled|rejected/.test(state ?? ""));
  expect(ends).toHaveLength(1);
  expect(events.at(-1)).toEqual(ends[0]);
};

describe("SendMessage", () => {
  it("waits for the end and gives state, context, all artifacts and the history", async () => {
    const task = taskOf(await send("Echo", textMessage("hi", { messageId: "whole" })));
    expect(task).toEqual({
      id: expect.stringMatching(/^task_/),
      contextId: expect.stringMatching(/^ctx_/),
      status: {
        state: "TASK_STATE_COMPLETED",
        timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      },
      artifacts: [{ artifactId: expect.any(String), name: "response", parts: [{ text: "You said hi" }] }],
      history: [
        { messageId: "whole", role: "ROLE_USER", parts: [{ text: "hi" }], taskId: task.id, contextId: task.contextId },
      ],
    });
    await expectSoundHistory(task.id);
  });

  it("keeps a streamed answer as one text part", async () => {
    const task = taskOf(await send("Slow", textMessage("go")));
    expect(task.artifacts).toMatchObject([{ parts: [{ text: CHUNKS.join("") }] }]);
    expect(task.artifacts[0].parts).toHaveLength(1);
  });

  it("answers at once when asked to, and the same message then waits for the end", async () => {
    const params = textMessage("go");
    const early = taskOf(await send("Slow", { ...params, ...now }));
    expect(["TASK_STATE_SUBMITTED", "TASK_STATE_WORKING"]).toContain(early.status.state);
    const done = taskOf(await send("Slow", params));
    expect(done).toMatchObject({ id: early.id, contextId: early.contextId, status: { state: "TASK_STATE_COMPLETED" } });
  });

  it("breaks off waiting at the organization's limit with the task as it is, and the task goes on", async () => {
    const short = await shaman.givenOrg(FILES);
    await givenSettings(shaman, short, { intake: { blockingWaitSeconds: 1 } });
    const task = taskOf(await shaman.rpc(short, { agent: "Hang", method: "SendMessage", params: textMessage("x") }));
    expect(task.status.state).toBe("TASK_STATE_WORKING");
    expect(texts(task)).toEqual(["Working on it"]);
    const seen = await shaman.rpc(short, { agent: "Hang", method: "GetTask", params: { id: task.id } });
    expect(seen.json.result.status.state).toBe("TASK_STATE_WORKING");
  });

  it("says why a task failed, and keeps what there was of the answer", async () => {
    const task = taskOf(await send("Broken", textMessage("x")));
    expect(task.status).toMatchObject({
      state: "TASK_STATE_FAILED",
      message: {
        role: "ROLE_AGENT",
        taskId: task.id,
        contextId: task.contextId,
        parts: [{ text: expect.any(String) }],
      },
    });
    expect(texts(task)).toEqual(["Half an ans"]);
    await expectSoundHistory(task.id);
  });

  it("makes one task of one message however often it comes at once", async () => {
    const params = textMessage("only once", { messageId: "fifty" });
    const answers = await Promise.all(Array.from({ length: 50 }, () => send("Echo", params)));
    const tasks = answers.map(taskOf);
    expect(new Set(tasks.map(({ id }) => id)).size).toBe(1);
    expect(new Set(tasks.map((task) => JSON.stringify(task))).size).toBe(1);
    const rows = await shaman.database.inspect(
      "SELECT t.id, r.steps FROM task t JOIN run r ON r.id = t.run_id JOIN message m ON m.task_id = t.id WHERE m.content->>'messageId' = 'fifty'",
    );
    expect(rows).toMatchObject([{ steps: 1 }]);
  });

  it("refuses a message id that comes again with other content, and knows it apart by caller and agent", async () => {
    const said = { messageId: "same-id" };
    const first = taskOf(await send("Echo", textMessage("one", said)));
    for (const changed of [
      textMessage("two", said),
      textMessage("one", { ...said, contextId: "elsewhere" }),
      textMessage("one", { ...said, metadata: { a: 1 } }),
    ]) {
      expect(errorOf(await send("Echo", changed))).toMatchObject({
        code: -32602,
        data: [{ reason: "MESSAGE_ID_REUSED" }, { fieldViolations: [{ field: "message.messageId" }] }],
      });
    }
    expect(taskOf(await send("Echo", textMessage("one", said))).id).toBe(first.id);
    expect(taskOf(await send("Slow", textMessage("two", said))).id).not.toBe(first.id);
    const other = await givenKey(shaman, org, {});
    const theirs = await shaman.rpc(other, { agent: "Echo", method: "SendMessage", params: textMessage("two", said) });
    expect(taskOf(theirs).id).not.toBe(first.id);
  });

  it("takes a context from its caller as it is, and gives each task of it an id of its own", async () => {
    const contextId = "my own: context/1";
    const [one, two] = await Promise.all(["a", "b"].map((text) => send("Echo", textMessage(text, { contextId }))));
    expect([one, two].map((answer) => answer?.json.result.task.contextId)).toEqual([contextId, contextId]);
    expect(one?.json.result.task.id).not.toBe(two?.json.result.task.id);
  });
});

describe("the history", () => {
  it("is the newest messages, as many as asked for, and absent for none", async () => {
    const task = await ask();
    const { message } = reply(task, "green");
    const lengthsOf = async (configuration: object) => taskOf(await send("Asker", { message, configuration })).history;
    expect((await lengthsOf({})).map(({ role }: { readonly role: string }) => role)).toEqual([
      "ROLE_USER",
      "ROLE_AGENT",
      "ROLE_USER",
    ]);
    expect(await lengthsOf({ historyLength: 0 })).toBeUndefined();
    expect(await lengthsOf({ historyLength: 1 })).toMatchObject([{ messageId: message.messageId }]);
    expect(await lengthsOf({ historyLength: 100 })).toHaveLength(3);
    const get = async (fields: object) =>
      (await call("Asker", "GetTask", { id: task.id, ...fields })).json.result.history;
    expect(await get({})).toHaveLength(3);
    expect(await get({ historyLength: 0 })).toBeUndefined();
    expect(await get({ historyLength: 2 })).toMatchObject([{ role: "ROLE_AGENT" }, { role: "ROLE_USER" }]);
    const opened = await stream("Asker", { message, configuration: { historyLength: 0 } });
    expect((await opened.next()).result.task).not.toHaveProperty("history");
  });
});

describe("a task that waits for its caller", () => {
  it("says what it asks, and goes on with the answer", async () => {
    const task = await ask();
    expect(task.status).toMatchObject({
      state: "TASK_STATE_INPUT_REQUIRED",
      message: { role: "ROLE_AGENT", taskId: task.id, contextId: task.contextId, parts: [{ text: "Which colour?" }] },
    });
    const done = taskOf(await send("Asker", reply(task, "green")));
    expect(done).toMatchObject({ id: task.id, contextId: task.contextId, status: { state: "TASK_STATE_COMPLETED" } });
    expect(done.status).not.toHaveProperty("message");
    expect(texts(done)).toEqual(["A moment. ", "You chose green."]);
    await expectSoundHistory(task.id);
  });

  it("takes its context from its id alone, and refuses another one", async () => {
    const task = await ask();
    expect(errorOf(await send("Asker", textMessage("x", { taskId: task.id, contextId: "other" })))).toMatchObject({
      code: -32602,
      data: [{}, { fieldViolations: [{ field: "message.contextId" }] }],
    });
    expect(taskOf(await send("Asker", textMessage("blue", { taskId: task.id }))).contextId).toBe(task.contextId);
  });

  it("goes on in a stream: the task first, then its events to the end", async () => {
    const task = await ask();
    const opened = await stream("Asker", reply(task, "red"));
    const events = await opened.rest();
    expect(kindsOf(events)[0]).toBe("task");
    expect(kindsOf(events)).toContain("artifact");
    expect(kindsOf(events).at(-1)).toBe("TASK_STATE_COMPLETED");
    expect(kindsOf(events).slice(1)).not.toContain("TASK_STATE_INPUT_REQUIRED");
    expect(streamedText(events)).toBe("You chose red.");
  });

  it("takes one and the same answer once, however often and by whatever operation it comes", async () => {
    const task = await ask();
    const answer = reply(task, "green");
    const repeats = await Promise.all(Array.from({ length: 8 }, () => send("Asker", answer)));
    for (const repeat of repeats) expect(taskOf(repeat).status.state).toBe("TASK_STATE_COMPLETED");
    const opened = await stream("Asker", answer);
    expect(kindsOf(await opened.rest())).toEqual(["task"]);
    const rows = await shaman.database.inspect("SELECT 1 FROM task_command WHERE task_id = $1", [task.id]);
    expect(rows).toHaveLength(1);
    const audits = await shaman.database.inspect(
      "SELECT 1 FROM audit_log WHERE task_id = $1 AND action = 'task:answer'",
      [task.id],
    );
    expect(audits).toHaveLength(1);
  });

  it("lets repeats of an answer join the wait and the stream before anybody has taken it up", async () => {
    const task = await ask();
    const answer = reply(task, "green");
    shaman.processes.worker.signal("SIGSTOP");
    const early = taskOf(await send("Asker", { ...answer, ...now }));
    expect(early.status).toEqual({ state: "TASK_STATE_SUBMITTED", timestamp: expect.any(String) });
    const polled = await call("Asker", "GetTask", { id: task.id });
    expect(polled.json.result.status.state).toBe("TASK_STATE_SUBMITTED");
    expect(errorOf(await send("Asker", reply(task, "blue")))).toMatchObject({ code: -32004 });
    const opened = await stream("Asker", answer);
    expect((await opened.next()).result.task.status.state).toBe("TASK_STATE_SUBMITTED");
    const waiting = send("Asker", answer);
    shaman.processes.worker.signal("SIGCONT");
    expect(texts(taskOf(await waiting))).toEqual(["A moment. ", "You chose green."]);
    expect(kindsOf(await opened.rest()).at(-1)).toBe("TASK_STATE_COMPLETED");
  });

  it("takes one of two different answers that come at once, and refuses the other", async () => {
    const task = await ask();
    const answers = await Promise.all(["green", "blue"].map((text) => send("Asker", reply(task, text))));
    const taken = answers.filter(({ json }) => json.result !== undefined);
    const refused = answers.filter(({ json }) => json.error !== undefined);
    expect(taken).toHaveLength(1);
    expect(refused).toHaveLength(1);
    expect(refused[0]?.json.error).toMatchObject({ code: -32004, data: [{ reason: "UNSUPPORTED_OPERATION" }] });
    const { history, artifacts } = taken[0]?.json.result.task ?? {};
    expect(artifacts[1].parts[0].text).toBe(`You chose ${history[2].parts[0].text}.`);
  });

  it("may ask again: each question gets its own answer, and an old answer answers no new question", async () => {
    const task = taskOf(await send("Twice", textMessage("go")));
    const first = reply(task, "one");
    const again = taskOf(await send("Twice", first));
    expect(again.status).toMatchObject({
      state: "TASK_STATE_INPUT_REQUIRED",
      message: { parts: [{ text: "Second?" }] },
    });
    expect(taskOf(await send("Twice", first)).status.message.parts).toEqual([{ text: "Second?" }]);
    const done = taskOf(await send("Twice", reply(task, "two")));
    expect(texts(done)).toEqual(["Last was two."]);
    await expectSoundHistory(task.id);
  });

  it("does not take the message that began it for an answer", async () => {
    const params = textMessage("paint", { messageId: "began" });
    const task = taskOf(await send("Asker", params));
    const same = { message: { ...params.message, taskId: task.id } };
    expect(errorOf(await send("Asker", same))).toMatchObject({
      code: -32602,
      data: [{ reason: "MESSAGE_ID_REUSED" }, {}],
    });
    expect(taskOf(await send("Asker", reply(task, "paint"))).status.state).toBe("TASK_STATE_COMPLETED");
  });
});

describe("a task that does not wait", () => {
  it("refuses a message when it is finished, and when it is working", async () => {
    const done = taskOf(await send("Echo", textMessage("x")));
    for (const method of ["SendMessage", "SendStreamingMessage"]) {
      const answer = await call("Echo", method, reply(done, "more"));
      expect(answer.headers["content-type"]).toContain("application/json");
      expect(errorOf(answer)).toMatchObject({ code: -32004, data: [{ reason: "UNSUPPORTED_OPERATION" }] });
    }
    const working = taskOf(await send("Hang", textMessage("x", {}, now)));
    expect(errorOf(await send("Hang", reply(working, "more")))).toMatchObject({ code: -32004 });
    const next = taskOf(
      await send("Echo", textMessage("more", { contextId: done.contextId, referenceTaskIds: [done.id] })),
    );
    expect(next.contextId).toBe(done.contextId);
  });
});

describe("SendStreamingMessage", () => {
  it("gives the task first, then every event as it comes, and closes when the task is finished", async () => {
    const opened = await stream("Slow", textMessage("go"));
    expect(opened.status).toBe(200);
    expect(opened.headers).toMatchObject({
      "content-type": expect.stringContaining("text/event-stream"),
      "cache-control": "no-cache",
      "x-request-id": expect.stringMatching(/^req_/),
    });
    const events = await opened.rest();
    const kinds = kindsOf(events);
    expect(kinds.slice(0, 2)).toEqual(["task", "TASK_STATE_WORKING"]);
    expect(kinds.at(-1)).toBe("TASK_STATE_COMPLETED");
    expect(kinds.slice(2, -1).every((kind) => kind === "artifact")).toBe(true);
    expect(kinds.length).toBeGreaterThan(6);
    expect(streamedText(events)).toBe(CHUNKS.join(""));
    const { id, contextId } = events[0].result.task;
    for (const event of events) {
      expect(event).toMatchObject({ jsonrpc: "2.0", id: "stream" });
      const update = event.result.statusUpdate ?? event.result.artifactUpdate;
      if (update !== undefined) expect(update).toMatchObject({ taskId: id, contextId });
      expect(JSON.stringify(event)).not.toMatch(/"kind"|"final"|urn:shaman/);
    }
    const updates = events.flatMap(({ result }) => result.artifactUpdate ?? []);
    expect(updates[0]).not.toHaveProperty("append");
    expect(updates.slice(1).every(({ append }) => append === true)).toBe(true);
    expect(updates.at(-1)).toMatchObject({ lastChunk: true });
  });

  it("closes when the task waits for its caller", async () => {
    const events = await (await stream("Asker", textMessage("paint"))).rest();
    expect(kindsOf(events).at(-1)).toBe("TASK_STATE_INPUT_REQUIRED");
    expect(events.at(-1).result.statusUpdate.status.message.parts).toEqual([{ text: "Which colour?" }]);
  });

  it("shows every open stream of a task the same events in the same order", async () => {
    const params = textMessage("go");
    const first = await stream("Slow", params);
    const second = await stream("Slow", params);
    const leaver = await stream("Slow", params);
    await leaver.next();
    leaver.leave();
    const [all, joined] = await Promise.all([first.rest(), second.rest()]);
    expect(joined[0].result.task.id).toBe(all[0].result.task.id);
    const tail = joined.slice(1);
    expect(tail.length).toBeGreaterThan(3);
    expect(tail).toEqual(all.slice(-tail.length));
    const snapshot = joined[0].result.task.artifacts?.[0].parts[0].text ?? "";
    const later = tail.flatMap(({ result }) => result.artifactUpdate?.artifact.parts[0].text ?? []).join("");
    expect(snapshot + later).toBe(CHUNKS.join(""));
  });

  it("of a finished task gives the task and closes", async () => {
    const params = textMessage("hi");
    const done = taskOf(await send("Echo", params));
    const events = await (await stream("Echo", params)).rest();
    expect(events).toHaveLength(1);
    expect(events[0].result.task).toEqual(done);
  });

  it("leaves the task alone when its reader goes away", async () => {
    const params = textMessage("go");
    const opened = await stream("Slow", params);
    const { id } = (await opened.next()).result.task;
    await opened.next();
    opened.leave();
    const done = taskOf(await send("Slow", params));
    expect(done).toMatchObject({ id, status: { state: "TASK_STATE_COMPLETED" } });
    expect(texts(done)).toEqual([CHUNKS.join("")]);
  });

  it("answers an error before the first event as an ordinary answer", async () => {
    const answer = await call("Echo", "SendStreamingMessage", textMessage("x", { taskId: "task_none" }));
    expect(answer.status).toBe(200);
    expect(answer.headers["content-type"]).toContain("application/json");
    expect(answer.json).toMatchObject({ id: 1, error: { code: -32001 } });
  });
});

describe("the trace extension", () => {
  const traced = { "a2a-extensions": `urn:other, ${TRACE}` };
  const recordsOf = (
    events: readonly { readonly result: { readonly statusUpdate?: { readonly metadata?: object } } }[],
  ) => events.flatMap(({ result }) => Object.values(result.statusUpdate?.metadata ?? {}));

  it("shows the steps to callers that activate it, says that it is active, and leaves all else as it is", async () => {
    const opened = await stream("Asker", textMessage("paint"), traced);
    expect(opened.headers["a2a-extensions"]).toBe(TRACE);
    const events = await opened.rest();
    expect(recordsOf(events)).toMatchObject([
      { kind: "step", step: { kind: "model", state: "done", position: 1, name: "scripted/Asker.yaml" } },
      { kind: "step", step: { kind: "input", state: "started", position: 2, name: "request_input" } },
    ]);
    const rest = events.filter(({ result }) => result.statusUpdate?.metadata === undefined);
    expect(kindsOf(rest).at(-1)).toBe("TASK_STATE_INPUT_REQUIRED");
    const sent = await call("Echo", "SendMessage", textMessage("x"), traced);
    expect(sent.headers["a2a-extensions"]).toBe(TRACE);
  });

  it("stays hidden from everybody else", async () => {
    for (const headers of [{}, { "a2a-extensions": "urn:shaman:a2a:trace:v2" }]) {
      const opened = await stream("Asker", textMessage("paint"), headers);
      expect(opened.headers).not.toHaveProperty("a2a-extensions");
      const events = await opened.rest();
      expect(recordsOf(events)).toEqual([]);
      expect(JSON.stringify(events)).not.toContain("request_input");
    }
  });
});

describe("CancelTask", () => {
  const cancel = (agent: string, id: string) => call(agent, "CancelTask", { id });

  it("stops a task whose model is at work, tells its streams, and keeps what there was", async () => {
    const params = textMessage("x");
    const opened = await stream("Hang", params);
    const { id } = (await opened.next()).result.task;
    for (let event = await opened.next(); event.result.artifactUpdate === undefined;) event = await opened.next();
    const waiting = send("Hang", params);
    const { json } = await cancel("Hang", id);
    expect(json.result).toMatchObject({ id, status: { state: "TASK_STATE_CANCELED" } });
    expect(kindsOf(await opened.rest()).at(-1)).toBe("TASK_STATE_CANCELED");
    expect(taskOf(await waiting).status.state).toBe("TASK_STATE_CANCELED");
    expect(texts(json.result)).toEqual(["Working on it"]);
    await expectSoundHistory(id);
  });

  it("ends a task that waits for its caller, and no answer wakes it", async () => {
    const task = await ask();
    expect((await cancel("Asker", task.id)).json.result).toMatchObject({
      id: task.id,
      status: { state: "TASK_STATE_CANCELED" },
    });
    expect(errorOf(await send("Asker", reply(task, "green")))).toMatchObject({ code: -32004 });
    await expectSoundHistory(task.id);
  });

  it("ends a queued task before it begins, answering with the task as it is while nobody can", async () => {
    shaman.processes.worker.signal("SIGSTOP");
    const params = textMessage("never");
    const { id } = taskOf(await send("Echo", { ...params, ...now }));
    const { json } = await cancel("Echo", id);
    expect(json.result).toMatchObject({ id, status: { state: "TASK_STATE_SUBMITTED" } });
    shaman.processes.worker.signal("SIGCONT");
    expect(taskOf(await send("Echo", params))).toMatchObject({ id, status: { state: "TASK_STATE_CANCELED" } });
    expect(await shaman.database.inspect("SELECT 1 FROM step WHERE task_id = $1", [id])).toEqual([]);
    await expectSoundHistory(id);
  });

  it("refuses a finished task, a canceled one too, and repeats at once have one effect", async () => {
    const done = taskOf(await send("Echo", textMessage("x")));
    expect(errorOf(await cancel("Echo", done.id))).toMatchObject({
      code: -32002,
      data: [{ reason: "TASK_NOT_CANCELABLE" }],
    });
    const { id } = taskOf(await send("Hang", textMessage("x", {}, now)));
    const answers = await Promise.all(Array.from({ length: 5 }, () => cancel("Hang", id)));
    for (const { json } of answers) {
      if (json.error === undefined) expect(json.result.status.state).toBe("TASK_STATE_CANCELED");
      else expect(json.error.code).toBe(-32002);
    }
    expect(answers.some(({ json }) => json.result !== undefined)).toBe(true);
    expect(errorOf(await cancel("Hang", id))).toMatchObject({ code: -32002 });
    await expectSoundHistory(id);
  });
});
