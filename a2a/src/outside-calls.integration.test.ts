import { once } from "node:events";
import { createServer, type RequestListener, type Server } from "node:http";
import { createAgentResolver } from "@shaman/agents";
import { Secret, systemClock, unwrap, type Json, type JsonObject } from "@shaman/kernel";
import {
  findBrokenPromises,
  startOutsideAgent,
  startShaman,
  textMessage,
  whenRow,
  whenSeen,
  type OutsideAgent,
  type Shaman,
  type TestOrg,
} from "@shaman/testkit";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { listElsewhere } from "./internal/agent-calls.ts";

/** Agents of ours that call agents of others through all servers; those are made with the official SDK, or by hand to misbehave. */

type Call = { readonly name: string; readonly input: JsonObject & { readonly agent: string } };
type Turn = { readonly match?: JsonObject; readonly text?: string; readonly toolCalls?: readonly Call[] };

const call = (agent: string, message: string, more: JsonObject = {}): Call => ({
  name: "call_agent",
  input: { agent, message, ...more },
});
const agent = (name: string, frontMatter: string, turns: readonly Turn[]): Record<string, string> => ({
  [`${name}.md`]: `---\nname: ${name}\ndescription: The ${name}\nmodel: scripted/${name}.yaml\n${frontMatter}\n---\nYou are ${name}.\n`,
  [`${name}.yaml`]: JSON.stringify({ turns }),
});
/** An exposed agent that makes these calls at once, and says `then` when one of their results has the text. */
const caller = (name: string, calls: readonly Call[], then: readonly Turn[]): Record<string, string> =>
  agent(name, `exposed: true\ncalls: [${[...new Set(calls.map(({ input }) => input.agent))].join(", ")}]`, [
    { match: { turn: 1 }, toolCalls: calls },
    ...then,
  ]);
const on = (toolResult: Json, text: string): Turn => ({ match: { toolResult }, text });

/** A server with a card, which does with messages what it is told to. */
const startByHand = async (answer: RequestListener): Promise<{ readonly server: Server; readonly url: string }> => {
  const server = createServer((request, response) => {
    if (request.method !== "GET") {
      answer(request, response);
      return;
    }
    const { port } = Object(server.address());
    response.setHeader("content-type", "application/json").end(
      JSON.stringify({
        name: "By hand",
        description: "Misbehaves",
        version: "1.0.0",
        capabilities: {},
        defaultInputModes: ["text/plain"],
        defaultOutputModes: ["text/plain"],
        skills: [],
        supportedInterfaces: [
          { url: `http://127.0.0.1:${port}/`, protocolBinding: "HTTP+JSON", protocolVersion: "1.0" },
        ],
      }),
    );
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return { server, url: `http://127.0.0.1:${Object(server.address()).port}/card.json` };
};

let shaman: Shaman;
let org: TestOrg;
let techcorp: TestOrg;
let partner: OutsideAgent;
const servers: Server[] = [];
let muteMessages = 0;
const busyAt: number[] = [];

beforeAll(async () => {
  [shaman, partner] = await Promise.all([startShaman(), startOutsideAgent()]);
  const mute = await startByHand(() => (muteMessages += 1));
  const busy = await startByHand((_, response) => {
    busyAt.push(Date.now());
    if (busyAt.length === 1) {
      response.writeHead(429, { "retry-after": "1" }).end();
      return;
    }
    const message = { messageId: "m", role: "ROLE_AGENT", parts: [{ text: "Now I have time." }] };
    response.setHeader("content-type", "application/json").end(JSON.stringify({ message }));
  });
  servers.push(mute.server, busy.server);
  techcorp = await shaman.givenOrg(agent("Tax", "exposed: true", [{ text: "Tax is 19 EUR." }]));
  org = await shaman.givenOrg({
    "agents.json": JSON.stringify({
      Pal: { url: partner.cardUrl("old-rpc") },
      Nowhere: { url: "http://127.0.0.1:9/" },
      Metadata: { url: "http://169.254.169.254/" },
    }),
    ...caller("Desk", [call("Partner", "echo good morning")], [on("Echo: good morning", "They answered.")]),
    ...caller(
      "Sorry",
      [call("Partner", "fail"), call("Nowhere", "hi"), call("Metadata", "hi"), call("NoKey", "hi")],
      [on({ output: "ended its task as failed", isError: true }, "None of them.")],
    ),
    ...caller("Holder", [call("Partner", "hold crash")], [on("One moment, done.", "Held.")]),
    ...caller("Patient", [call("Partner", "hold ever")], []),
    ...caller("Hurried", [call("Mute", "hello")], [on("its outcome is unknown", "Nobody knows.")]),
    ...caller("Later", [call("Busy", "hello")], [on("Now I have time.", "At last.")]),
    ...caller(
      "Clerk",
      [call("Partner", "ask")],
      [
        { match: { toolResult: "Which order?" }, toolCalls: [call("Partner", "order 7", { answers: "call-2" })] },
        on("You said order 7.", "Ordered."),
      ],
    ),
    ...caller("Accountant", [call("TaxAgent", "100 EUR")], [on("Tax is 19 EUR.", "119 EUR.")]),
    ...caller("Front", [call("Inner", "go")], [on("They echoed", "Done.")]),
    ...agent("Inner", "calls: [Partner]", [
      { match: { turn: 1 }, toolCalls: [call("Partner", "echo no"), call("Pal", "echo yes")] },
      { match: { toolResult: "Echo: yes" }, text: "They echoed" },
    ]),
  });
  await org.addOutsideAgent({ name: "Partner", url: partner.cardUrl("rest") });
  await org.addOutsideAgent({ name: "Mute", url: mute.url });
  await org.addOutsideAgent({ name: "Busy", url: busy.url });
  const tax = `http://${techcorp.host}/a2a/v1/agents/Tax`;
  await org.addOutsideAgent({
    name: "TaxAgent",
    url: tax,
    credential: { kind: "bearer", token: new Secret(techcorp.apiKey) },
  });
  const locked = await startByHand((_, response) => response.writeHead(401).end());
  servers.push(locked.server);
  await org.addOutsideAgent({ name: "NoKey", url: locked.url });
});
afterAll(async () => {
  await Promise.all([shaman.close(), partner.close()]);
  for (const server of servers) {
    server.closeAllConnections();
    server.close();
  }
});
afterEach(async () => {
  expect(await findBrokenPromises(shaman.database, org.orgId)).toEqual([]);
});

// oxlint-disable-next-line typescript/no-explicit-any -- a test looks into answers of many shapes
const taskOf = (answer: { readonly json: any }) => answer.json.result?.task ?? answer.json;
const begin = async (name: string) => {
  const params = { ...textMessage(`go ${name}`), configuration: { returnImmediately: true } };
  return taskOf(await shaman.rpc(org, { agent: name, method: "SendMessage", params })).id;
};
const start = async (name: string) =>
  taskOf(await shaman.rpc(org, { agent: name, method: "SendMessage", params: textMessage(`go ${name}`) }));
const whenFinished = (taskId: string, state: string) =>
  whenRow(shaman.database, "SELECT 1 FROM task WHERE id = $1 AND state = $2", [taskId, state]);
const callsOf = (taskId: string) =>
  shaman.database.inspect<{ name: string; state: string; server: string; text: string }>(
    `SELECT name, state, server, output->>'text' AS text FROM step
     WHERE run_id = (SELECT run_id FROM task WHERE id = $1) AND kind = 'call' AND child_task_id IS NULL ORDER BY position`,
    [taskId],
  );
const heard = (text: string) => partner.told.filter((one) => one.kind === "working" && one.text === text);

const restart = async () => {
  await shaman.processes.internal.kill("SIGKILL");
  await shaman.processes.internal.start();
};

describe("an agent that calls an outside agent", () => {
  it("gets its streamed answer whole, as data, and the call is audited with server and time", async () => {
    const task = await start("Desk");
    expect(task.status.state).toBe("TASK_STATE_COMPLETED");
    const [made] = await callsOf(task.id);
    expect(made).toMatchObject({ name: "Partner", state: "done", server: "Partner" });
    expect(made?.text).toMatch(/outside agent Partner gave.*It is data.*Echo: good morning.*\[end \w+\]$/s);
    const audited = await shaman.database.inspect(
      `SELECT agent, resource, result, details->>'server' AS server, duration_ms >= 0 AS timed FROM audit_log
       WHERE action = 'agent:call' AND task_id = $1`,
      [task.id],
    );
    expect(audited).toEqual([
      { agent: "Desk", resource: "/externalAgents/Partner/", result: "ok", server: "Partner", timed: true },
    ]);
  });

  it("is told of failure, of an agent that is away, of a refused address and of a missing credential, each in a sentence", async () => {
    const task = await start("Sorry");
    expect(task.status.state).toBe("TASK_STATE_COMPLETED");
    const calls = await callsOf(task.id);
    expect(calls.map(({ name, state, server }) => [name, state, server])).toEqual([
      ["Partner", "failed", "Partner"],
      ["Nowhere", "failed", "http://127.0.0.1:9"],
      ["Metadata", "failed", "http://169.254.169.254"],
      ["NoKey", "failed", "NoKey"],
    ]);
    expect(calls[0]?.text).toContain("It did not work.");
    expect(calls[1]?.text).toContain("could not be called");
    expect(calls[2]?.text).toContain("outbound_refused");
    expect(calls[3]?.text).toContain("external_unauthenticated");
  });

  it("goes on after a crash with the task that the outside agent works on, which got one message", async () => {
    const taskId = await begin("Holder");
    await whenRow(
      shaman.database,
      "SELECT 1 FROM step WHERE task_id = $1 AND output->'remote'->>'taskId' IS NOT NULL",
      [taskId],
    );
    await restart();
    await whenSeen("GetTask", () =>
      partner.told.find((one) => one.kind === "request" && one.method === "GET" && one.path.includes("/tasks/")),
    );
    partner.release("crash");
    await whenFinished(taskId, "completed");
    expect(await callsOf(taskId)).toMatchObject([
      { state: "done", text: expect.stringContaining("One moment, done.") },
    ]);
    expect(heard("hold crash")).toHaveLength(1);
  });

  it("whose message may or may not have arrived when it crashed is told so, and does not send it again", async () => {
    const taskId = await begin("Hurried");
    await whenSeen("the message", () => (muteMessages > 0 ? true : undefined));
    await restart();
    await whenFinished(taskId, "completed");
    expect(await callsOf(taskId)).toMatchObject([{ state: "unknown" }]);
    expect(muteMessages).toBe(1);
  });

  it("waits as long as a busy one asks for, holding nothing, and then sends the message that was not taken", async () => {
    const task = await start("Later");
    expect(task.status.state).toBe("TASK_STATE_COMPLETED");
    expect(busyAt).toHaveLength(2);
    expect(await callsOf(task.id)).toMatchObject([{ name: "Busy", state: "done" }]);
    await whenRow(
      shaman.database,
      `SELECT 1 FROM run_event WHERE type = 'run.retry' AND payload->>'code' = 'external_busy' AND task_id = $1`,
      [task.id],
    );
  });

  it("is told what it asks, and answers the same task by a second call", async () => {
    const task = await start("Clerk");
    expect(task.status.state).toBe("TASK_STATE_COMPLETED");
    const [asked, answered] = await callsOf(task.id);
    expect(asked?.text).toMatch(/asks for more before it goes on.*"call-2".*Which order\?/s);
    expect(answered?.text).toContain("You said order 7.");
    const tasks = [...heard("ask"), ...heard("order 7")].map((one) => (one.kind === "working" ? one.taskId : ""));
    expect(tasks).toHaveLength(2);
    expect(new Set(tasks).size).toBe(1);
  });

  it("has the outside agent's task canceled when its own is", async () => {
    const taskId = await begin("Patient");
    const { taskId: remoteId } = await partner.whenTold("working", ({ text }) => text === "hold ever");
    await whenRow(shaman.database, "SELECT 1 FROM step WHERE task_id = $1 AND output->'remote'->>'taskId' = $2", [
      taskId,
      remoteId,
    ]);
    await shaman.rpc(org, { agent: "Patient", method: "CancelTask", params: { id: taskId } });
    await partner.whenTold("canceled", (told) => told.taskId === remoteId);
    await whenFinished(taskId, "canceled");
  });

  it("reaches one by an alias of its repository; a private agent by nothing else", async () => {
    const task = await start("Front");
    expect(task.status.state).toBe("TASK_STATE_COMPLETED");
    const [refused, made] = await callsOf(task.id);
    expect(refused?.text).toContain("give it an alias");
    expect(made).toMatchObject({ name: "Pal", state: "done", server: partner.origin });
    expect(heard("echo no")).toEqual([]);
  });

  it("is offered those that calls: names and aliases, marked, in the words of their stored cards, and no others", async () => {
    const db = shaman.database.as("internal");
    const agents = createAgentResolver({ db, clock: systemClock });
    const listed = async (name: string) => {
      const front = unwrap(await agents.resolveExposed({ orgId: org.orgId, name: "Front" }));
      const path = { orgId: org.orgId, repositoryId: front.repositoryId, commit: front.commit, path: name };
      return listElsewhere({ db, agents }, unwrap(await agents.resolvePinned(path)));
    };
    const pal = { name: "Pal", description: "at " + partner.origin, outside: true };
    const others = [
      { name: "Nowhere", description: "at http://127.0.0.1:9", outside: true },
      { name: "Metadata", description: "at http://169.254.169.254", outside: true },
    ];
    expect(await listed("Inner")).toEqual([pal, ...others]);
    expect(await listed("Desk")).toEqual([
      pal,
      ...others,
      { name: "Partner", description: "Does what the message says", outside: true },
    ]);
  });

  it("calls another organization of this installation by its public server and its key, like any other", async () => {
    const task = await start("Accountant");
    expect(task.status.state).toBe("TASK_STATE_COMPLETED");
    expect(await callsOf(task.id)).toMatchObject([{ name: "TaxAgent", state: "done" }]);
    const theirs = await shaman.database.inspect("SELECT agent, state FROM task WHERE org_id = $1", [techcorp.orgId]);
    expect(theirs).toEqual([{ agent: "Tax", state: "completed" }]);
  });
});
