import { realpathSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, relative, sep } from "node:path";

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import {
  CallToolResultSchema,
  LoggingMessageNotificationSchema,
  type JSONRPCMessage,
} from "@modelcontextprotocol/sdk/types.js";
import { unwrap } from "@shaman/kernel";
import { beforeAll, expect, onTestFinished, test } from "vitest";

import { DEFAULT_SANDBOX_LIMITS, type SandboxLimits } from "./sandbox-limits.ts";
import { findSandboxPrograms, type SandboxPrograms } from "./sandbox-programs.ts";
import type { SandboxEnd, SandboxSpec } from "./sandbox.ts";
import { startSandboxed } from "./start-sandboxed.ts";
import { StdioTransport } from "./stdio-transport.ts";

const MIB = 1024 * 1024;

let programs: SandboxPrograms;

beforeAll(async () => {
  programs = unwrap(await findSandboxPrograms());
});

type Given = Pick<SandboxSpec, "args"> & { readonly limits?: Partial<SandboxLimits>; readonly messageBytes?: number };

const givenTransport = (given: Given) => {
  const ends: SandboxEnd[] = [];
  const limits = { ...DEFAULT_SANDBOX_LIMITS, ...given.limits };
  const store = join(import.meta.dirname, "../../../../node_modules/.pnpm");
  const transport = new StdioTransport({
    start: (onLog) =>
      startSandboxed(programs, {
        label: "transport-test",
        command: "node",
        args: given.args,
        environment: {},
        readOnly: [{ from: store, to: "/servers" }],
        network: "none",
        limits,
        onLog,
      }),
    outputBytes: limits.outputBytes,
    ...(given.messageBytes !== undefined && { messageBytes: given.messageBytes }),
    onEnd: (end) => ends.push(end),
  });
  onTestFinished(() => transport.close());
  return { transport, ends };
};

/** A server's program as it lies in the packages' store, which is what the sandbox sees of the checkout. */
const serverProgram = (name: string): string => {
  const require = createRequire(import.meta.url);
  const store = join(import.meta.dirname, "../../../../node_modules/.pnpm");
  const folder = require.resolve.paths(name)?.map((path) => join(path, name)) ?? [];
  for (const candidate of folder) {
    try {
      const program = realpathSync(join(candidate, "dist/index.js"));
      return join("/servers", relative(store, program)).split(sep).join("/");
    } catch {
      continue;
    }
  }
  throw new Error(`${name} is not installed below ${dirname(store)}`);
};

const givenClient = async (given: Given) => {
  const { transport, ends } = givenTransport(given);
  const client = new Client({ name: "test", version: "1" });
  const logs: unknown[] = [];
  client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) => {
    logs.push(params.data);
  });
  await client.connect(transport);
  const call = async (name: string, args: Record<string, unknown> = {}) =>
    client.request({ method: "tools/call", params: { name, arguments: args } }, CallToolResultSchema);
  return { client, ends, logs, call };
};

test("the filesystem server works inside, on its own folder and nothing else", async () => {
  const program = serverProgram("@modelcontextprotocol/server-filesystem");
  const { client, call, ends } = await givenClient({ args: [program, "/scratch"] });
  expect((await client.listTools()).tools.map(({ name }) => name)).toContain("write_file");
  await call("write_file", { path: "/scratch/order.txt", content: "A-1001" });
  const read = await call("read_text_file", { path: "/scratch/order.txt" });
  expect(read.content).toMatchObject([{ type: "text", text: "A-1001" }]);
  expect((await call("read_text_file", { path: "/etc/passwd" })).isError).toBe(true);
  await client.close();
  expect(ends).toMatchObject([{ reason: "closed" }]);
});

test("the memory server works inside, and what it remembers ends with it", async () => {
  const args = [serverProgram("@modelcontextprotocol/server-memory")];
  const entity = { name: "acme", entityType: "customer", observations: ["pays late"] };
  const environment = await givenClient({ args });
  const refused = await environment.call("create_entities", { entities: [entity] });
  // It keeps its file beside its program unless it is told where, and there nothing can be written.
  expect(refused.isError).toBe(true);
  const script = `process.env.MEMORY_FILE_PATH = "/scratch/memory.jsonl"; import(${JSON.stringify(args[0])})`;
  const first = await givenClient({ args: ["-e", script] });
  await first.call("create_entities", { entities: [entity] });
  expect(JSON.stringify(await first.call("read_graph"))).toContain("pays late");
  await first.client.close();
  const second = await givenClient({ args: ["-e", script] });
  expect(JSON.stringify(await second.call("read_graph"))).not.toContain("pays late");
});

test("the everything server works inside: tools, progress, resources, prompts, logs", async () => {
  const { client, call, logs } = await givenClient({
    args: [serverProgram("@modelcontextprotocol/server-everything"), "stdio"],
  });
  expect((await call("echo", { message: "hello" })).content).toMatchObject([
    { text: expect.stringContaining("hello") },
  ]);
  const progress: number[] = [];
  await client.request(
    {
      method: "tools/call",
      params: { name: "trigger-long-running-operation", arguments: { duration: 0.2, steps: 2 } },
    },
    CallToolResultSchema,
    { onprogress: (each) => progress.push(each.progress) },
  );
  expect(progress.length).toBeGreaterThan(0);
  expect((await client.listResources()).resources.length).toBeGreaterThan(0);
  expect((await client.listPrompts()).prompts.length).toBeGreaterThan(0);
  expect(logs.join("\n")).toContain("Starting");
});

/** A script that answers the handshake, offers nothing, and at the first call does something. */
const server = (onCall: string): readonly string[] => [
  "-e",
  `
  const say = (value) => process.stdout.write(JSON.stringify({ jsonrpc: "2.0", ...value }) + "\\n");
  require("node:readline").createInterface({ input: process.stdin }).on("line", (line) => {
    const message = JSON.parse(line);
    if (message.method === "initialize") say({ id: message.id, result: { protocolVersion: message.params.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: "s", version: "1" } } });
    else if (message.method === "tools/call") { ${onCall} }
  });
  `,
];

test("100 MB without a line end are cut off at one message's length, and the call is told why", async () => {
  const flood = `const piece = Buffer.alloc(1 << 20, "x"); let left = 100; const write = () => left-- > 0 && process.stdout.write(piece, write); write();`;
  const { call, ends } = await givenClient({ args: server(flood), messageBytes: MIB });
  await expect(call("x")).rejects.toThrow("it wrote more than it may");
  expect(ends).toMatchObject([{ reason: "output" }]);
});

test("an endless flood of messages ends at what a server may write, and meanwhile others are served", async () => {
  const flood = `const notice = JSON.stringify({ jsonrpc: "2.0", method: "notifications/message", params: { level: "info", data: "x" } }) + "\\n"; const write = () => process.stdout.write(notice.repeat(500), write); write();`;
  const { call, ends } = await givenClient({ args: server(flood), limits: { outputBytes: 2 * MIB } });
  const other = await givenClient({ args: server(`say({ id: message.id, result: { content: [] } });`) });
  const flooded = expect(call("x")).rejects.toThrow("it wrote more than it may");
  expect(await other.call("x")).toEqual({ content: [] });
  await flooded;
  expect(ends).toMatchObject([{ reason: "output" }]);
  expect(await other.call("x")).toEqual({ content: [] });
});

test("a server that dies, is killed for its memory, or talks no JSON fails its call with the reason", async () => {
  const dying = await givenClient({ args: server(`process.exit(3)`) });
  await expect(dying.call("x")).rejects.toThrow("ended by itself with status 3");
  const greedy = `const kept = Buffer.alloc(300 * ${MIB}, 1); setInterval(() => kept.length, 1000);`;
  const hungry = await givenClient({ args: server(greedy), limits: { memoryBytes: 150 * MIB } });
  await expect(hungry.call("x")).rejects.toThrow("more than 157286400 bytes of memory");
  const babbling = await givenClient({ args: server(`process.stdout.write("hello\\n".repeat(200))`) });
  await expect(babbling.call("x")).rejects.toThrow("it wrote more than it may");
});

test("a line that is no message is skipped, and an answer after it still comes", async () => {
  const { call } = await givenClient({
    args: server(`process.stdout.write("debug: here\\n\\n"); say({ id: message.id, result: { content: [] } });`),
  });
  expect(await call("x")).toEqual({ content: [] });
});

test("a server that does not read is sent no more than one message's length, and the sender is told", async () => {
  const { transport } = givenTransport({ args: ["-e", "setInterval(() => {}, 1000)"], messageBytes: MIB });
  await transport.start();
  const message: JSONRPCMessage = { jsonrpc: "2.0", method: "x", params: { text: "x".repeat(300_000) } };
  const sending = Array.from({ length: 6 }, () => transport.send(message));
  const settled = Promise.allSettled(sending);
  await expect(Promise.race(sending.slice(3))).rejects.toThrow("does not read");
  await transport.close();
  expect((await settled).filter(({ status }) => status === "rejected").length).toBeGreaterThan(1);
});

test("a server that hangs in a call is closed with it, and one that cannot start says why", async () => {
  const { client, call, ends } = await givenClient({ args: server(`for (;;);`) });
  const hanging = expect(call("x")).rejects.toThrow("The server was closed");
  await client.close();
  await hanging;
  expect(ends).toMatchObject([{ reason: "closed" }]);
  const failing = givenClient({ args: ["-e", `console.error("no configuration"); process.exit(2)`] });
  await expect(failing).rejects.toThrow("ended by itself with status 2");
});
