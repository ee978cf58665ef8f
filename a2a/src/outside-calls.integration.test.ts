import { createAgentResolver } from "@shaman/agents";
import { Secret, systemClock, unwrap } from "@shaman/kernel";
import {
  callOf as call,
  findBrokenPromises,
  onResult as on,
  openStream,
  scriptedAgent as agent,
  scriptedCaller as caller,
  startOutsideAgent,
  startOutsideByHand,
  startShaman,
  textMessage,
  whenRow,
  whenSeen,
  type OutsideAgent,
  type OutsideByHand,
  type Shaman,
  type TestOrg,
} from "@shaman/testkit";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { listElsewhere } from "./internal/agent-calls.ts";

/** Agents of ours that call agents of others through all servers; those are made with the official SDK, or by hand to misbehave. */

let shaman: Shaman;
let org: TestOrg;
let techcorp: TestOrg;
let partner: OutsideAgent;
const servers: OutsideByHand[] = [];
let muteMessages = 0;
const busyAt: number[] = [];
/** Ids of the messages that the agent got which recognizes a repeat; it answers the second one. */
const repeated: string[] = [];

beforeAll(async () => {
  [shaman, partner] = await Promise.all([startShaman(), startOutsideAgent()]);
  const mute = await startOutsideByHand(() => (muteMessages += 1));
  const busy = await startOutsideByHand((_, response) => {
    busyAt.push(Date.now());
    if (busyAt.length === 1) {
      response.writeHead(429, { "retry-after": "1" }).end();
      return;
    }
    const message = { messageId: "m", role: "ROLE_AGENT", parts: [{ text: "Now I have time." }] };
    response.setHeader("content-type", "application/json").end(JSON.stringify({ message }));
  });
  const again = await startOutsideByHand((request, response) => {
    let body = "";
    request.on("data", (data) => (body += String(data)));
    request.on("end", () => {
      repeated.push(JSON.parse(body).message.messageId);
      if (repeated.length === 1) return;
      const message = { messageId: "m", role: "ROLE_AGENT", parts: [{ text: "I know this message." }] };
      response.setHeader("content-type", "application/json").end(JSON.stringify({ message }));
    });
  });
  servers.push(mute, busy, again);
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
    ...caller("Shown", [call("Partner", "hold shown")], [on("One moment, done.", "Shown.")]),
    ...caller("Patient", [call("Partner", "hold ever")], []),
    ...caller("Hurried", [call("Mute", "hello")], [on("its outcome is unknown", "Nobody knows.")]),
    ...caller("Insistent", [call("Again", "hello")], [on("I know this message.", "Understood.")]),
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
  await org.addOutsideAgent({ name: "Mute", url: mute.cardUrl });
  await org.addOutsideAgent({ name: "Busy", url: busy.cardUrl });
  await org.addOutsideAgent({ name: "Again", url: again.cardUrl, repeatable: true });
  const tax = `http://${techcorp.host}/a2a/v1/agents/Tax`;
  await org.addOutsideAgent({
    name: "TaxAgent",
    url: tax,
    credential: { kind: "bearer", token: new Secret(techcorp.apiKey) },
  });
  const locked = await startOutsideByHand((_, response) => response.writeHead(401).end());
  servers.push(locked);
  await org.addOutsideAgent({ name: "NoKey", url: locked.cardUrl });
});
afterAll(async () => {
  await Promise.all([shaman.close(), partner.close()]);
  for (const server of servers) await server.close();
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

  it("sends the same message again after a crash to one that recognizes a repeat", async () => {
    const taskId = await begin("Insistent");
    await whenSeen("the message", () => (repeated.length > 0 ? true : undefined));
    await restart();
    await whenFinished(taskId, "completed");
    expect(await callsOf(taskId)).toMatchObject([
      { state: "done", text: expect.stringContaining("I know this message.") },
    ]);
    expect(repeated).toHaveLength(2);
    expect(new Set(repeated).size).toBe(1);
  });

  it("shows what it writes while it writes it: in the run, and to a caller that asked for the trace", async () => {
    const stream = await openStream(shaman, org, {
      agent: "Shown",
      params: textMessage("go Shown"),
      headers: { "a2a-extensions": "urn:shaman:a2a:trace:v1" },
    });
    const noticed = async (): Promise<string> => {
      for (let event = await stream.next(); event !== undefined; event = await stream.next()) {
        const notice = event.result.statusUpdate?.metadata?.["urn:shaman:a2a:trace:v1"]?.notice;
        if (notice?.kind === "text") return `${notice.tool} ${notice.artifact}: ${notice.message}`;
      }
      throw new Error("The stream ended without a text");
    };
    expect(await noticed()).toBe("Partner answer.txt: One moment");
    partner.release("shown");
    expect(await noticed()).toBe("Partner answer.txt: , done.");
    const rest = await stream.rest();
    expect(rest.at(-1)?.result.statusUpdate.status.state).toBe("TASK_STATE_COMPLETED");
    const artifacts = rest.filter(({ result }) => result.artifactUpdate !== undefined);
    expect(JSON.stringify(artifacts)).not.toContain("One moment");
  });

  it("writes the figures of its calls when its server is stopped", async () => {
    const calls = async () => {
      const rows = await shaman.database.inspect<{ calls: number }>(
        `SELECT coalesce(sum(h.calls), 0)::integer AS calls FROM external_agent_health h
         JOIN external_agent e ON e.org_id = h.org_id AND e.id = h.external_agent_id WHERE e.org_id = $1 AND e.name = 'Partner'`,
        [org.orgId],
      );
      return rows[0]?.calls;
    };
    await shaman.processes.internal.kill("SIGTERM");
    await shaman.processes.internal.start();
    const before = (await calls()) ?? 0;
    expect((await start("Desk")).status.state).toBe("TASK_STATE_COMPLETED");
    await shaman.processes.internal.kill("SIGTERM");
    expect(await calls()).toBe(before + 1);
    await shaman.processes.internal.start();
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
