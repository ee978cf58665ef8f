import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import { createServer as createTcpServer, type AddressInfo } from "node:net";
import { systemClock, type Clock } from "@shaman/kernel";
import { testTokenContext } from "@shaman/testkit";
import { afterEach, expect, test } from "vitest";
import { openAgentConnections, type AgentConnections } from "./agent-connections.ts";
import { createInternalCaller } from "./call-internal.ts";
import { NONCE_HEADER } from "./stream-message.ts";

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

/** Servers behind one address that take turns as `turns` says; the tokens here are the bare names of who may take them. */
const givenServers = async (turns: readonly string[], after = "") => {
  const named: (string | undefined)[] = [];
  let count = 0;
  const server = createServer((request, response: ServerResponse) => {
    const own = turns[count] ?? "";
    count += 1;
    const nonce = /^Bearer (.+)$/.exec(request.headers.authorization ?? "")?.[1];
    named.push(nonce === "none" ? undefined : nonce);
    response.setHeader(NONCE_HEADER, own);
    if (nonce !== "none" && nonce !== own) {
      response.writeHead(421, { "content-type": "application/json" });
      response.end('{"error":{"code":-32000,"message":"for another server"}}');
      return;
    }
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.end(`data: {"result":{"task":{"id":"${own}"}}}\n\n${after}`);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const connections = openAgentConnections({ connections: 1 });
  closing.push(
    () => connections.destroy(),
    () => server.close(),
  );
  let now = 0;
  const { port } = server.address() as AddressInfo;
  return { named, call: callOf(connections, port, { now: () => now }), pass: (ms: number) => void (now += ms) };
};

const callOf = (connections: AgentConnections, port: number, clock: Clock = systemClock) => {
  const callInternal = createInternalCaller({
    minter: { mint: ({ nonce }) => nonce ?? "none" },
    connections,
    origin: `http://127.0.0.1:${port}`,
    clock,
  });
  return async (events: unknown[] = []): Promise<unknown[]> => {
    const sent = {
      issuer: "shaman-public-server",
      agent: "Clerk",
      rpcId: 1,
      message: {},
      context: testTokenContext(),
      signal: new AbortController().signal,
    } as const;
    for await (const some of callInternal(sent)) events.push(...some);
    return events;
  };
};

test("names the server that answered before", async () => {
  const { named, call } = await givenServers(["a", "a", "a"]);
  for (let i = 0; i < 3; i += 1) expect(await call()).toEqual([{ task: { id: "a" } }]);
  expect(named).toEqual([undefined, "a", "a"]);
});

test("asks again without a name where another server answers, and names none for a minute", async () => {
  const { named, call, pass } = await givenServers(["a", "b", "b", "a", "a"]);
  await call();
  expect(await call()).toEqual([{ task: { id: "b" } }]);
  pass(59_999);
  await call();
  pass(1);
  await call();
  expect(named).toEqual([undefined, "a", undefined, undefined, "a"]);
});

test("gives what came before a line that is no event, and says that the answer had begun", async () => {
  const { call } = await givenServers(["a"], 'data: {"result":{"task":{}}}\n\n');
  const events: unknown[] = [];
  await expect(call(events)).rejects.toMatchObject({ code: "agent_stream_broken" });
  expect(events).toEqual([{ task: { id: "a" } }]);
});

test.each([
  ["nobody listens", "agent_unavailable"],
  ["the server goes away before it has answered", "agent_stream_broken"],
  ["the answer ends in the middle of its head", "agent_stream_broken"],
])("tells whether somebody may have begun, where %s", async (what, code) => {
  const server = createTcpServer((socket) => {
    socket.once("data", () => {
      if (what.includes("middle")) socket.write("HTTP/1.1 200 OK\r\ncontent-");
      socket.destroySoon();
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  if (what === "nobody listens") await new Promise((resolve) => server.close(resolve));
  const connections = openAgentConnections({ connections: 1 });
  closing.push(
    () => connections.destroy(),
    () => server.close(),
  );
  await expect(callOf(connections, port)()).rejects.toMatchObject({ code });
});
