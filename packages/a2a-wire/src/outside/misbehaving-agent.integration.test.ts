import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import { createServer as createTcpServer } from "node:net";
import type { AddExternalAgentInput } from "@shaman/external";
import { Secret } from "@shaman/kernel";
import { createOutbound, type Outbound } from "@shaman/outbound";
import {
  freePort,
  outcomeArtifactText,
  outcomeOf,
  partsText,
  readCall,
  startExternalCallScene,
  type ExternalCallScene,
} from "@shaman/testkit";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { cancelExternalTask, type ExternalOutcome } from "./call-external-agent.ts";
import { probeExternalAgent } from "./probe-external-agent.ts";

/** Outside agents that break rules, connections and patience: plain servers that say what the test scripted. */

let scene: ExternalCallScene;
let production: Outbound;
beforeAll(async () => {
  scene = await startExternalCallScene();
  production = createOutbound({ allowLoopback: false, mapLocalhost: false });
});
afterAll(async () => {
  await production.close();
  await scene.close();
});

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

const rpcBody = z.object({ id: z.string(), method: z.string(), params: z.looseObject({}) });

type Asked = {
  readonly method: string;
  readonly path: string;
  readonly params: Record<string, unknown>;
  readonly id: string;
  readonly headers: IncomingHttpHeaders;
};
type Play = (asked: Asked, outgoing: ServerResponse) => unknown;

const TASK = { id: "task-1", contextId: "ctx-1" };
const IDS = { taskId: "task-1", contextId: "ctx-1" };
const task = (state: string, more: object = {}) => ({ ...TASK, status: { state: `TASK_STATE_${state}` }, ...more });
const status = (state: string) => ({ statusUpdate: { ...IDS, status: { state: `TASK_STATE_${state}` } } });
const chunk = (text: string, append = false) => ({
  artifactUpdate: { ...IDS, artifact: { artifactId: "a", parts: [{ text }] }, append },
});

const answer = (asked: Pick<Asked, "id">, outgoing: ServerResponse, result: unknown): void => {
  outgoing.writeHead(200, { "content-type": "application/json" });
  outgoing.end(JSON.stringify({ jsonrpc: "2.0", id: asked.id, result }));
};
const fail = (asked: Asked, outgoing: ServerResponse, code: number): void => {
  outgoing.writeHead(200, { "content-type": "application/json" });
  outgoing.end(JSON.stringify({ jsonrpc: "2.0", id: asked.id, error: { code, message: "no" } }));
};
const begin = (outgoing: ServerResponse): void =>
  outgoing.writeHead(200, { "content-type": "text/event-stream" }).flushHeaders();
const event = (asked: Asked, outgoing: ServerResponse, result: unknown): boolean =>
  outgoing.write(`data: ${JSON.stringify({ jsonrpc: "2.0", id: asked.id, result })}\n\n`);
const stream = (asked: Asked, outgoing: ServerResponse, results: readonly unknown[]): void => {
  begin(outgoing);
  for (const result of results) event(asked, outgoing, result);
};

/** An agent that streams and answers JSON-RPC 1.0 as `plays` says, by method. */
const givenAgent = async (
  plays: Readonly<Record<string, Play>>,
  options: {
    readonly streaming?: boolean;
    readonly interface?: object;
    /** Further interfaces of its card. */
    readonly others?: (origin: string) => readonly object[];
    readonly input?: Partial<AddExternalAgentInput>;
  } = {},
) => {
  const asked: Asked[] = [];
  const server = createServer((incoming, outgoing) => {
    let body = "";
    incoming.on("data", (data) => (body += String(data)));
    incoming.on("end", () => {
      if (incoming.url === "/card.json") return void outgoing.end(JSON.stringify(card));
      const parsed = rpcBody.safeParse(body === "" ? undefined : JSON.parse(body)).data;
      const one: Asked = {
        method: parsed?.method ?? incoming.method ?? "",
        path: incoming.url ?? "",
        params: parsed?.params ?? {},
        id: parsed?.id ?? "",
        headers: incoming.headers,
      };
      asked.push(one);
      const play = plays[`${one.method} ${one.path}`] ?? plays[one.method];
      if (play === undefined) outgoing.writeHead(404).end();
      else play(one, outgoing);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(
    () =>
      new Promise((resolve) => {
        server.close(resolve);
        server.closeAllConnections();
      }),
  );
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const origin = `http://127.0.0.1:${address.port}`;
  const rpc = { url: `${origin}/rpc`, protocolBinding: "JSONRPC", protocolVersion: "1.0", ...options.interface };
  const card = {
    name: "Odd",
    description: "Breaks rules",
    version: "1",
    supportedInterfaces: [
      { url: "grpc.example.com:443", protocolBinding: "GRPC", protocolVersion: "1.0" },
      rpc,
      ...(options.others?.(origin) ?? []),
    ],
    capabilities: { streaming: options.streaming ?? true },
    skills: [],
  };
  const given = await scene.given(`${origin}/card.json`, { name: "Odd", ...options.input });
  const call = (more: Parameters<typeof given.call>[1] = {}) =>
    given.call("", { message: { messageId: "m-1", parts: [{ text: "hi" }] }, ...more });
  return { ...given, origin, asked, call, methods: () => asked.map(({ method }) => method) };
};

const errorOf = (outcome: ExternalOutcome) =>
  outcome.kind === "error" ? { code: outcome.error.code, delivered: outcome.delivered } : outcome;

describe("a stream that breaks", () => {
  test("is taken up again by a subscription, and the artifacts are whole and come once", async () => {
    const agent = await givenAgent({
      SendStreamingMessage: (asked, outgoing) => {
        stream(asked, outgoing, [{ task: task("WORKING") }, chunk("one ")]);
        event(asked, outgoing, chunk("two ", true));
        outgoing.write("", () => outgoing.destroy());
      },
      SubscribeToTask: (asked, outgoing) => {
        const artifacts = [{ artifactId: "a", parts: [{ text: "one " }, { text: "two " }] }];
        stream(asked, outgoing, [{ task: task("WORKING", { artifacts }) }, chunk("three", true), status("COMPLETED")]);
        outgoing.end();
      },
    });
    const { seen, outcome } = await readCall(agent.call());
    expect(outcomeArtifactText(outcome)).toBe("one two three");
    expect(agent.methods()).toEqual(["SendStreamingMessage", "SubscribeToTask"]);
    const written = seen.flatMap((one) => (one.kind === "artifact" ? [partsText(one.artifact)] : []));
    expect(written).toEqual(["one ", "two ", "three"]);
  });

  test("or ends without an end is asked for by GetTask when it cannot be subscribed to", async () => {
    let polls = 0;
    const agent = await givenAgent({
      SendStreamingMessage: (asked, outgoing) => {
        stream(asked, outgoing, [{ task: task("WORKING") }]);
        outgoing.end();
      },
      SubscribeToTask: (asked, outgoing) => fail(asked, outgoing, -32004),
      GetTask: (asked, outgoing) => {
        polls += 1;
        const artifacts = [{ artifactId: "a", parts: [{ text: "late" }] }];
        if (polls === 2) outgoing.writeHead(503, { "retry-after": "0" }).end();
        else answer(asked, outgoing, polls < 4 ? task("WORKING") : task("COMPLETED", { artifacts }));
      },
    });
    const outcome = await outcomeOf(agent.call());
    expect(outcome).toMatchObject({ kind: "task", state: "completed", remote: { taskId: "task-1" } });
    expect(outcomeArtifactText(outcome)).toBe("late");
    expect(polls).toBe(4);
  });

  test("before anything came is an error of unknown delivery, and nothing is sent twice", async () => {
    const agent = await givenAgent({
      SendStreamingMessage: (_asked, outgoing) => {
        begin(outgoing);
        outgoing.write(": hello\n\n", () => outgoing.destroy());
      },
    });
    expect(errorOf(await outcomeOf(agent.call()))).toMatchObject({ delivered: "maybe" });
    expect(agent.methods()).toEqual(["SendStreamingMessage"]);
  });

  test("was never there: an agent that answers the stream with one JSON document is understood", async () => {
    const agent = await givenAgent({
      SendStreamingMessage: (asked, outgoing) => answer(asked, outgoing, { task: task("COMPLETED") }),
    });
    expect(await outcomeOf(agent.call())).toMatchObject({ kind: "task", state: "completed" });
  });

  test("is not offered after all: the message goes out without streaming", async () => {
    const agent = await givenAgent({
      SendStreamingMessage: (asked, outgoing) => fail(asked, outgoing, -32004),
      SendMessage: (asked, outgoing) => answer(asked, outgoing, { task: task("COMPLETED") }),
    });
    expect(await outcomeOf(agent.call())).toMatchObject({ kind: "task", state: "completed" });
    expect(agent.asked[1]?.params).toMatchObject({ message: { messageId: "m-1" } });
  });
});

describe("an agent that hangs", () => {
  test("before its headers, or in the middle of a stream, is given up, and a known task is asked for", async () => {
    const silent = await givenAgent({ SendStreamingMessage: () => undefined });
    expect(errorOf(await outcomeOf(silent.call({ limits: { headersMs: 30 } })))).toEqual({
      code: "external_timed_out",
      delivered: "maybe",
    });
    const stuck = await givenAgent({
      SendStreamingMessage: (asked, outgoing) => stream(asked, outgoing, [{ task: task("WORKING") }]),
      SubscribeToTask: (asked, outgoing) => fail(asked, outgoing, -32004),
      GetTask: (asked, outgoing) => answer(asked, outgoing, task("FAILED")),
    });
    expect(await outcomeOf(stuck.call({ limits: { idleMs: 30 } }))).toMatchObject({ kind: "task", state: "failed" });
  });

  test("beyond the deadline is asked to cancel, and its task's id is told", async () => {
    const canceled = Promise.withResolvers<unknown>();
    const agent = await givenAgent({
      SendStreamingMessage: (asked, outgoing) => stream(asked, outgoing, [{ task: task("WORKING") }]),
      CancelTask: (asked, outgoing) => {
        canceled.resolve(asked.params.id);
        answer(asked, outgoing, task("CANCELED"));
      },
    });
    const outcome = await outcomeOf(agent.call({ deadline: Date.now() + 150 }));
    expect(outcome).toMatchObject({
      kind: "error",
      error: { code: "external_timed_out" },
      remote: { taskId: "task-1" },
    });
    expect(await canceled.promise).toBe("task-1");
  });
});

describe("an answer that is too large", () => {
  const cancels: Play = (asked, outgoing) => answer(asked, outgoing, task("CANCELED"));

  test("in one event, in one body, or in all its chunks together ends the call and the task", async () => {
    const event1 = await givenAgent({
      SendStreamingMessage: (asked, outgoing) =>
        stream(asked, outgoing, [{ task: task("WORKING") }, chunk("x".repeat(5_000))]),
      CancelTask: cancels,
    });
    const limits = { maxEventBytes: 2_000 };
    expect(errorOf(await outcomeOf(event1.call({ limits })))).toMatchObject({ code: "external_answer_too_large" });
    expect(event1.methods()).toEqual(["SendStreamingMessage", "CancelTask"]);

    const chunks = await givenAgent({
      SendStreamingMessage: (asked, outgoing) => {
        stream(asked, outgoing, [{ task: task("WORKING") }]);
        for (let n = 0; n < 100; n += 1) event(asked, outgoing, chunk("x".repeat(100), n > 0));
      },
      CancelTask: cancels,
    });
    const inAll = await outcomeOf(chunks.call({ limits: { maxBytes: 5_000 } }));
    expect(errorOf(inAll)).toMatchObject({ code: "external_answer_too_large" });

    const body = await givenAgent(
      {
        SendMessage: (asked, outgoing) =>
          answer(asked, outgoing, { task: task("COMPLETED", { pad: "x".repeat(50_000) }) }),
      },
      { streaming: false },
    );
    const whole = await outcomeOf(body.call({ limits: { maxAnswerBytes: 10_000 } }));
    expect(errorOf(whole)).toMatchObject({ code: "external_answer_too_large" });
  });

  test("by its number of events, artifacts or depth ends the call too", async () => {
    const flood = await givenAgent({
      SendStreamingMessage: (asked, outgoing) => {
        stream(asked, outgoing, [{ task: task("WORKING") }]);
        for (let n = 0; n < 50; n += 1) event(asked, outgoing, status("WORKING"));
      },
      CancelTask: cancels,
    });
    const flooded = await outcomeOf(flood.call({ limits: { maxEvents: 20 } }));
    expect(errorOf(flooded)).toMatchObject({ code: "external_answer_too_large" });
    const artifacts = Array.from({ length: 30 }, (_, n) => ({ artifactId: String(n), parts: [] }));
    const many = await givenAgent({
      SendStreamingMessage: (asked, outgoing) => stream(asked, outgoing, [{ task: task("WORKING", { artifacts }) }]),
      CancelTask: cancels,
    });
    const manyOutcome = await outcomeOf(many.call({ limits: { maxArtifacts: 20 } }));
    expect(errorOf(manyOutcome)).toMatchObject({ code: "external_answer_too_large" });
    const deep = await givenAgent({
      SendStreamingMessage: (_asked, outgoing) => {
        begin(outgoing);
        outgoing.end(`data: ${"[".repeat(500)}${"]".repeat(500)}\n\n`);
      },
    });
    expect(errorOf(await outcomeOf(deep.call()))).toMatchObject({ code: "external_answer_invalid" });
  });
});

describe("an answer with wrong ids", () => {
  test.each([
    ["another request's id", (asked: Asked) => ({ ...asked, id: "other" }), { task: task("COMPLETED") }],
    [
      "another task's update",
      (asked: Asked) => asked,
      { statusUpdate: { ...IDS, taskId: "other", status: { state: "TASK_STATE_COMPLETED" } } },
    ],
    [
      "another context",
      (asked: Asked) => asked,
      { statusUpdate: { ...IDS, contextId: "other", status: { state: "TASK_STATE_COMPLETED" } } },
    ],
  ])("is refused: %s", async (_what, asWhom, wrong) => {
    const agent = await givenAgent({
      SendStreamingMessage: (asked, outgoing) => {
        stream(asked, outgoing, [{ task: task("WORKING") }]);
        event(asWhom(asked), outgoing, wrong);
      },
      CancelTask: (asked, outgoing) => answer(asked, outgoing, task("CANCELED")),
    });
    expect(errorOf(await outcomeOf(agent.call()))).toMatchObject({ code: "external_answer_invalid" });
  });

  test("is refused: a context other than the one that was named, and another task for an answer", async () => {
    const agent = await givenAgent({
      SendStreamingMessage: (asked, outgoing) => stream(asked, outgoing, [{ task: task("COMPLETED") }]),
    });
    const swapped = await outcomeOf(agent.call({ contextId: "ctx-mine" }));
    expect(errorOf(swapped)).toMatchObject({ code: "external_answer_invalid" });
    const other = await outcomeOf(agent.call({ taskId: "task-mine" }));
    expect(errorOf(other)).toMatchObject({ code: "external_answer_invalid" });
  });
});

describe("an interface that is not there", () => {
  const completes: Play = (asked, outgoing) => answer(asked, outgoing, { task: task("COMPLETED") });
  const unknownMethod: Play = (asked, outgoing) => fail(asked, outgoing, -32601);
  const second = (origin: string) => [{ url: `${origin}/second`, protocolBinding: "JSONRPC", protocolVersion: "1.0" }];
  const nowhere = async () => ({ url: `http://127.0.0.1:${await freePort()}/rpc` });

  test("leaves the message to the card's next one, in another binding, which is told", async () => {
    const agent = await givenAgent(
      {
        "POST /rest/message:stream": (_asked, outgoing) => {
          outgoing.writeHead(200, { "content-type": "application/a2a+json" });
          outgoing.end(JSON.stringify({ task: task("COMPLETED") }));
        },
      },
      {
        interface: await nowhere(),
        others: (origin) => [{ url: `${origin}/rest`, protocolBinding: "HTTP+JSON", protocolVersion: "1.0" }],
      },
    );
    const { seen, outcome } = await readCall(agent.call());
    expect(outcome).toMatchObject({ kind: "task", state: "completed" });
    expect(seen[0]).toMatchObject({ kind: "fallback", from: { binding: "JSONRPC" }, to: { binding: "HTTP+JSON" } });
    expect(agent.asked).toHaveLength(1);
  });

  test.each([
    ["knows no such method", unknownMethod],
    ["has no such path", (_asked: Asked, outgoing: ServerResponse) => void outgoing.writeHead(404).end("<html>")],
    ["speaks another version", (asked: Asked, outgoing: ServerResponse) => fail(asked, outgoing, -32009)],
  ])("in the sense that it %s: the next one gets the same message", async (_what, play) => {
    const agent = await givenAgent(
      { "SendStreamingMessage /rpc": play, "SendMessage /rpc": play, "SendStreamingMessage /second": completes },
      { others: second },
    );
    expect(await outcomeOf(agent.call())).toMatchObject({ kind: "task", state: "completed" });
    expect(agent.asked.at(-1)?.path).toBe("/second");
    for (const { params } of agent.asked) expect(params).toMatchObject({ message: { messageId: "m-1" } });
  });

  test.each([
    ["breaks off", (_asked: Asked, outgoing: ServerResponse) => void outgoing.destroy()],
    ["fails", (_asked: Asked, outgoing: ServerResponse) => void outgoing.writeHead(500).end()],
    ["refuses", (_asked: Asked, outgoing: ServerResponse) => void outgoing.writeHead(403).end()],
    ["is busy", (_asked: Asked, outgoing: ServerResponse) => void outgoing.writeHead(429).end()],
  ])("is something else than one that %s: the next one gets nothing", async (_what, play) => {
    const agent = await givenAgent(
      { "SendStreamingMessage /rpc": play, "SendStreamingMessage /second": completes },
      { others: second },
    );
    expect(await outcomeOf(agent.call())).toMatchObject({ kind: "error" });
    expect(agent.asked.map(({ path }) => path)).toEqual(["/rpc"]);
  });

  test("does not lead a credential to another origin", async () => {
    const agent = await givenAgent(
      { SendStreamingMessage: completes },
      {
        interface: await nowhere(),
        others: second,
        input: { credential: { kind: "bearer", token: new Secret("t") } },
      },
    );
    expect(errorOf(await outcomeOf(agent.call()))).toEqual({ code: "outbound_failed", delivered: "no" });
    expect(agent.asked).toEqual([]);
  });

  test("does not keep a known task from being asked for, canceled or probed by the next one", async () => {
    const agent = await givenAgent(
      {
        GetTask: (asked, outgoing) =>
          asked.params.id === "task-1" ? answer(asked, outgoing, task("COMPLETED")) : fail(asked, outgoing, -32001),
        CancelTask: (asked, outgoing) => fail(asked, outgoing, -32002),
      },
      { interface: await nowhere(), others: second },
    );
    expect(await outcomeOf(agent.call({ reentry: IDS }))).toMatchObject({ kind: "task", state: "completed" });
    const { deps, orgId, target } = agent;
    const { signal } = new AbortController();
    const canceled = await cancelExternalTask(deps, { orgId, target, taskId: "task-1", signal });
    expect(canceled).toMatchObject({ ok: false, error: { code: "external_task_not_cancelable" } });
    const probe = await probeExternalAgent(deps, { orgId, target, signal });
    expect(probe).toMatchObject({ ok: true, value: { interface: { url: `${agent.origin}/second` } } });
    expect(agent.methods()).toEqual(["GetTask", "CancelTask", "GetTask"]);
  });
});

describe("an agent whose server is away for a moment", () => {
  const PATIENT = { reconnectMs: 10_000 };

  /** An agent at whose address nothing answers until `comeBack`. */
  const givenAway = async () => {
    const port = await freePort();
    const away = await givenAgent({}, { interface: { url: `http://127.0.0.1:${port}/rpc` } });
    const bodies: string[] = [];
    const server = createServer((incoming, outgoing) => {
      let body = "";
      incoming.on("data", (data) => (body += String(data)));
      incoming.on("end", () => {
        bodies.push(body);
        answer({ id: rpcBody.parse(JSON.parse(body)).id }, outgoing, { task: task("COMPLETED") });
      });
    });
    closers.push(() => new Promise((resolve) => server.close(resolve)));
    return { ...away, bodies, comeBack: () => void server.listen(port, "127.0.0.1") };
  };

  test("gets the message when it is back, once, and whoever follows is told of the waiting once", async () => {
    const agent = await givenAway();
    const reading = readCall(agent.call({ limits: PATIENT }));
    setTimeout(agent.comeBack, 500);
    const { seen, outcome } = await reading;
    expect(outcome).toMatchObject({ kind: "task", state: "completed" });
    expect(agent.bodies).toHaveLength(1);
    expect(seen.map(({ kind }) => kind)).toEqual(["unreachable", "progress", "outcome"]);
  });

  test("is entered again when it is back, instead of being given up", async () => {
    let polls = 0;
    const nobody = await freePort();
    const agent = await givenAgent({ GetTask: (asked, outgoing) => answer(asked, outgoing, task("COMPLETED")) });
    const refusing: Outbound = {
      ...scene.outbound,
      fetchWith: (limits) => (input, init) => {
        polls += 1;
        return scene.outbound.fetchWith(limits)(polls === 1 ? `http://127.0.0.1:${nobody}/rpc` : input, init);
      },
    };
    const outcome = await outcomeOf(agent.call({ reentry: IDS, way: refusing, limits: PATIENT }));
    expect(outcome).toMatchObject({ kind: "task", state: "completed" });
    expect(agent.methods()).toEqual(["GetTask"]);
  });

  test("is not waited for beyond the call's end or its deadline, whichever comes first", async () => {
    const agent = await givenAway();
    const abort = new AbortController();
    const reason = new Error("not wanted any more");
    let endedAt = 0;
    // In the middle of the third pause.
    setTimeout(() => {
      endedAt = Date.now();
      abort.abort(reason);
    }, 1_000);
    await expect(readCall(agent.call({ signal: abort.signal, limits: PATIENT }))).rejects.toBe(reason);
    expect(Date.now() - endedAt).toBeLessThan(400);
    endedAt = Date.now() + 600;
    const late = await outcomeOf(agent.call({ deadline: endedAt, limits: PATIENT }));
    expect(errorOf(late)).toEqual({ code: "outbound_failed", delivered: "no" });
    expect(Date.now()).toBeLessThan(endedAt + 400);
    expect(agent.bodies).toEqual([]);
  });

  test("gets it too where connections ended before there was a way to say anything", async () => {
    let connections = 0;
    const server = createTcpServer((socket) => {
      connections += 1;
      socket.destroy();
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    closers.push(() => new Promise((resolve) => server.close(resolve)));
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    const agentAt = (scheme: string) =>
      givenAgent({}, { interface: { url: `${scheme}://127.0.0.1:${address.port}/rpc` } });

    const encrypted = await agentAt("https");
    expect(errorOf(await outcomeOf(encrypted.call({ limits: { reconnectMs: 400 } })))).toMatchObject({
      delivered: "no",
    });
    expect(connections).toBe(3);

    connections = 0;
    const plain = await agentAt("http");
    expect(errorOf(await outcomeOf(plain.call({ limits: PATIENT })))).toMatchObject({ delivered: "maybe" });
    expect(connections).toBe(1);
  });

  test("gets nothing twice that may have arrived: neither an answer it took, nor a message that it led on", async () => {
    const nowhere = `http://127.0.0.1:${await freePort()}/`;
    let fetches = 0;
    const agent = await givenAgent({ SendStreamingMessage: (_asked, outgoing) => void outgoing.destroy() });
    const dying: Outbound = {
      ...scene.outbound,
      fetchWith: (limits) => (input, init) => {
        fetches += 1;
        return scene.outbound.fetchWith(limits)(fetches === 1 ? input : nowhere, init);
      },
    };
    const limits = { reconnectMs: 400 };
    expect(errorOf(await outcomeOf(agent.call({ ...IDS, way: dying, limits })))).toMatchObject({ delivered: "maybe" });
    expect(agent.methods()).toEqual(["SendStreamingMessage"]);

    const leading = await givenAgent({
      SendStreamingMessage: (_asked, outgoing) => void outgoing.writeHead(303, { location: nowhere }).end(),
    });
    expect(errorOf(await outcomeOf(leading.call({ limits })))).toMatchObject({ delivered: "maybe" });
    expect(leading.asked).toHaveLength(1);
  });

  test("is asked by every interface again, from the first one on, and each change of them is told once", async () => {
    const ports = [await freePort(), await freePort(), await freePort()];
    const [at, ...others] = ports.map((port) => ({
      url: `http://127.0.0.1:${port}/rpc`,
      protocolBinding: "JSONRPC",
      protocolVersion: "1.0",
    }));
    const agent = await givenAgent({}, { ...(at !== undefined && { interface: at }), others: () => others });
    const tried: string[] = [];
    const counting: Outbound = {
      ...scene.outbound,
      fetchWith: (limits) => (input, init) => {
        tried.push(new URL(input instanceof Request ? input.url : input).port);
        return scene.outbound.fetchWith(limits)(input, init);
      },
    };
    const { seen } = await readCall(agent.call({ way: counting, limits: { reconnectMs: 300 } }));
    expect(tried).toEqual([...ports, ...ports, ...ports].map(String));
    expect(seen.map(({ kind }) => kind)).toEqual(["fallback", "fallback", "unreachable", "outcome"]);
  });

  test("is told of once also where its card is at that server", async () => {
    const card = `http://127.0.0.1:${await freePort()}/card.json`;
    const agent = await givenAgent({});
    const target = { kind: "url", name: "Odd", url: card } as const;
    const { seen, outcome } = await readCall(agent.call({ target, limits: { reconnectMs: 600 } }));
    expect(outcome).toMatchObject({ kind: "error", delivered: "no" });
    expect(seen.map(({ kind }) => kind)).toEqual(["unreachable", "outcome"]);
  });
});

describe("an agent that refuses", () => {
  const refusing =
    (statusCode: number, headers: Record<string, string> = {}): Play =>
    (_asked, outgoing) =>
      void outgoing.writeHead(statusCode, headers).end("<html>");

  test.each([
    [401, "external_unauthenticated", "no"],
    [403, "external_forbidden", "no"],
    [400, "external_refused", "no"],
    [429, "external_busy", "no"],
    [503, "external_unavailable", "no"],
    [500, "external_unavailable", "maybe"],
    [502, "external_unavailable", "maybe"],
  ])("by %i is %s, delivered: %s", async (statusCode, code, delivered) => {
    const agent = await givenAgent({ SendStreamingMessage: refusing(statusCode) });
    expect(errorOf(await outcomeOf(agent.call()))).toEqual({ code, delivered });
    expect(agent.asked).toHaveLength(1);
  });

  test("for now says for how long", async () => {
    const agent = await givenAgent({ SendStreamingMessage: refusing(429, { "retry-after": "7" }) });
    const outcome = await outcomeOf(agent.call());
    expect(outcome).toMatchObject({
      kind: "error",
      error: { code: "external_busy", kind: "operational", retryAfterMs: 7_000 },
    });
  });

  test("because it is not there is certainly not delivered", async () => {
    const agent = await givenAgent({}, { interface: { url: `http://127.0.0.1:${await freePort()}/rpc` } });
    expect(errorOf(await outcomeOf(agent.call()))).toEqual({ code: "outbound_failed", delivered: "no" });
  });

  test("gets its waiting task back unharmed when an answer could not be delivered", async () => {
    const agent = await givenAgent({ SendStreamingMessage: refusing(429) });
    const outcome = await outcomeOf(agent.call({ taskId: "task-1", contextId: "ctx-1" }));
    expect(errorOf(outcome)).toEqual({ code: "external_busy", delivered: "no" });
    expect(agent.methods()).toEqual(["SendStreamingMessage"]);
  });
});

describe("the way to an agent", () => {
  test("leads through the guard for every address: an interface that moved to a private one is not called", async () => {
    const agent = await givenAgent({
      SendStreamingMessage: (asked, outgoing) => answer(asked, outgoing, { task: task("COMPLETED") }),
    });
    const outcome = await outcomeOf(agent.call({ way: production }));
    expect(errorOf(outcome)).toEqual({ code: "outbound_refused", delivered: "no" });
    expect(agent.asked).toEqual([]);
  });

  test("may turn within its origin, with body and credential, and nowhere else", async () => {
    const credential = { kind: "bearer", token: new Secret("t") } as const;
    const other = await givenAgent({});
    const turn =
      (location: string): Play =>
      (_asked, outgoing) =>
        void outgoing.writeHead(307, { location }).end();
    const agent = await givenAgent(
      {
        "SendStreamingMessage /rpc": turn("/rpc/"),
        "SendStreamingMessage /rpc/": (asked, outgoing) => stream(asked, outgoing, [{ task: task("COMPLETED") }]),
      },
      { input: { credential } },
    );
    expect(await outcomeOf(agent.call())).toMatchObject({ kind: "task", state: "completed" });
    expect(agent.asked[1]?.headers.authorization).toBe("Bearer t");
    const away = await givenAgent({ SendStreamingMessage: turn(`${other.origin}/rpc`) }, { input: { credential } });
    expect(errorOf(await outcomeOf(away.call()))).toEqual({ code: "outbound_refused", delivered: "no" });
    expect(other.asked).toEqual([]);
  });

  test("names the interface's tenant exactly, in every request", async () => {
    const agent = await givenAgent(
      {
        SendMessage: (asked, outgoing) => answer(asked, outgoing, { task: task("WORKING") }),
        GetTask: (asked, outgoing) => answer(asked, outgoing, task("COMPLETED")),
      },
      { streaming: false, interface: { tenant: "a/b c" } },
    );
    expect(await outcomeOf(agent.call())).toMatchObject({ kind: "task", state: "completed" });
    for (const { params } of agent.asked) expect(params.tenant).toBe("a/b c");
    const rest = await givenAgent({}, { interface: { tenant: "a/b c", protocolBinding: "HTTP+JSON" } });
    await outcomeOf(rest.call());
    expect(rest.asked[0]?.path).toBe("/rpc/a%2Fb%20c/message:stream");
  });
});

describe("a call that is entered again", () => {
  const completes: Play = (asked, outgoing) => answer(asked, outgoing, { task: task("COMPLETED") });

  test("without a known task sends again only to an agent that recognizes a repeat, and then the same id", async () => {
    const plain = await givenAgent({ SendStreamingMessage: completes });
    expect(errorOf(await outcomeOf(plain.call({ reentry: {} })))).toEqual({
      code: "external_outcome_unknown",
      delivered: "maybe",
    });
    expect(plain.asked).toEqual([]);
    const repeatable = await givenAgent({ SendStreamingMessage: completes }, { input: { repeatable: true } });
    expect(await outcomeOf(repeatable.call({ reentry: {} }))).toMatchObject({ kind: "task", state: "completed" });
    expect(repeatable.asked[0]?.params).toMatchObject({ message: { messageId: "m-1" } });
  });

  test("reads the task's end if it ended meanwhile, and says so if the agent knows it no more", async () => {
    const ended = await givenAgent({ GetTask: (asked, outgoing) => answer(asked, outgoing, task("COMPLETED")) });
    expect(await outcomeOf(ended.call({ reentry: IDS }))).toMatchObject({ kind: "task", state: "completed" });
    expect(ended.methods()).toEqual(["GetTask"]);
    const lost = await givenAgent({ GetTask: (asked, outgoing) => fail(asked, outgoing, -32001) });
    expect(errorOf(await outcomeOf(lost.call({ reentry: IDS })))).toMatchObject({ code: "external_task_not_found" });
  });

  test("with an answer to a waiting task sends it again only if the task waits and does not know it", async () => {
    const answering = { taskId: "task-1", contextId: "ctx-1", reentry: IDS };
    const waiting =
      (history: readonly object[]): Play =>
      (asked, outgoing) =>
        answer(asked, outgoing, task("INPUT_REQUIRED", { history }));
    const ours = { messageId: "m-1", role: "ROLE_USER", parts: [{ text: "hi" }] };
    const again = await givenAgent({ GetTask: waiting([]), SendStreamingMessage: completes });
    expect(await outcomeOf(again.call(answering))).toMatchObject({ kind: "task", state: "completed" });
    expect(again.methods()).toEqual(["GetTask", "SendStreamingMessage"]);
    const known = await givenAgent({ GetTask: waiting([ours]), SendStreamingMessage: completes });
    expect(await outcomeOf(known.call(answering))).toMatchObject({ kind: "interrupted", state: "input_required" });
    expect(known.methods()).toEqual(["GetTask"]);
  });

  test("after its run moved to another process leaves the task alone when it is broken off", async () => {
    const agent = await givenAgent({
      SendStreamingMessage: (asked, outgoing) => stream(asked, outgoing, [{ task: task("WORKING") }]),
    });
    const abort = new AbortController();
    const reading = (async () => {
      for await (const _ of agent.call({ signal: abort.signal, shouldCancel: async () => false })) {
        abort.abort(new Error("handed over"));
      }
    })();
    await expect(reading).rejects.toThrow("handed over");
    expect(agent.methods()).toEqual(["SendStreamingMessage"]);
  });
});
