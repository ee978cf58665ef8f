import { spawn, type ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { createRequire } from "node:module";
import { createOutbound, type Outbound } from "@shaman/outbound";
import { parseSecretKeys } from "@shaman/secrets";
import { freePort, testDatabase, type TestDatabase } from "@shaman/testkit";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import type { ToolNotice } from "../tool.ts";
import { createMcpTools, type McpTools } from "./mcp-tools.ts";

let database: TestDatabase;
let outbound: Outbound;
let mcp: McpTools;
let server: ChildProcess;
let url: string;

beforeAll(async () => {
  database = await testDatabase();
  outbound = createOutbound({ allowLoopback: true, mapLocalhost: true, allowHttp: true });
  const keys = parseSecretKeys(`test:${randomBytes(32).toString("base64url")}`);
  if (!keys.ok) throw new Error(keys.error);
  mcp = createMcpTools({ db: database.as("internal"), secretKeys: keys.value, outbound });
  const port = await freePort();
  const program = createRequire(import.meta.url).resolve("@modelcontextprotocol/server-everything/dist/index.js");
  server = spawn(process.execPath, [program, "streamableHttp"], {
    env: { PATH: process.env["PATH"], PORT: String(port) },
    stdio: "ignore",
  });
  url = `http://127.0.0.1:${port}/mcp`;
  await vi.waitFor(() => outbound.fetch(url, { method: "DELETE" }), { timeout: 30_000, interval: 100 });
});
afterAll(async () => {
  await mcp.close();
  server.kill();
  await outbound.close();
  await database.close();
});

test("the public server-everything serves its tools, resources and prompts over streamable HTTP", async () => {
  const { orgId } = await database.givenOrg();
  const set = await mcp.open({
    orgId,
    runId: "run_1",
    repositoryId: "repo_1",
    repositoryName: "agents",
    definition: {
      mcpServers: {
        all: { kind: "inline", url, transport: "streamable-http", tools: ["*", "resources", "prompts"] },
      },
      repeatable: [],
    },
    signal: AbortSignal.timeout(60_000),
  });
  const notices: ToolNotice[] = [];
  const call = async (name: string, input: Parameters<(typeof set.tools)[number]["run"]>[0]) => {
    const tool = set.tools.find(({ spec }) => spec.name === `all__${name}`);
    if (tool === undefined) throw new Error(`No ${name} among ${set.tools.map(({ spec }) => spec.name).join(" ")}`);
    return tool.run(input, { signal: AbortSignal.timeout(60_000), notice: (notice) => notices.push(notice) });
  };
  expect(JSON.stringify(await call("echo", { message: "hello" }))).toContain("Echo: hello");
  expect((await call("echo", { message: 7 })).isError).toBe(true);
  expect((await call("get-tiny-image", {})).content.map(({ type }) => type)).toContain("image");
  const structured = await call("get-structured-content", { location: "Chicago" });
  expect(structured.structured).toMatchObject({ conditions: expect.any(String) });
  await call("trigger-long-running-operation", { duration: 1, steps: 2 });
  expect(notices.some(({ kind }) => kind === "progress")).toBe(true);
  expect((await call("list_resources", {})).isError).toBe(false);
  expect(JSON.stringify(await call("list_prompts", {}))).toContain("simple-prompt");
  expect(JSON.stringify(await call("get_prompt", { name: "simple-prompt" }))).toContain("user:");
  await set.close();
});
