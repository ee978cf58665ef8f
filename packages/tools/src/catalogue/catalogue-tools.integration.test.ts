import { randomBytes } from "node:crypto";
import { chmod, mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import type { McpServerUse } from "@shaman/agents";
import type { JsonObject } from "@shaman/kernel";
import { createOutbound } from "@shaman/outbound";
import { parseSecretKeys } from "@shaman/secrets";
import { testDatabase, type TestDatabase } from "@shaman/testkit";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { createMcpTools } from "../mcp/mcp-tools.ts";
import type { ToolNotice, ToolSet } from "../tool.ts";
import { loadCatalogue } from "./load-catalogue.ts";
import { createStdioServers, type StdioServerEnd } from "./stdio-servers.ts";

const STORE = join(import.meta.dirname, "../../../../node_modules/.pnpm");
const FILESYSTEM = join(
  import.meta.dirname,
  "../../node_modules/@modelcontextprotocol/server-filesystem/dist/index.js",
);

/** Says on its standard error what it does, and has one tool, during which it dies. */
const FRAGILE = `
  const say = (value) => process.stdout.write(JSON.stringify({ jsonrpc: "2.0", ...value }) + "\\n");
  require("node:readline").createInterface({ input: process.stdin }).on("line", (line) => {
    const { id, method, params } = JSON.parse(line);
    if (method === "initialize") say({ id, result: { protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: "s", version: "1" } } });
    else if (method === "tools/list") say({ id, result: { tools: [{ name: "die", inputSchema: { type: "object" } }] } });
    else if (method === "tools/call") { console.error("no ink left"); setTimeout(() => process.exit(7), 100); }
  });
`;

let database: TestDatabase;
let folder: string;

beforeAll(async () => {
  database = await testDatabase();
  folder = await mkdtemp(join(tmpdir(), "shaman-catalogue-tools-"));
  await chmod(folder, 0o755);
  const filesystem = join("/servers", relative(STORE, await realpath(FILESYSTEM)));
  const servers = {
    files: {
      description: "Files of the run",
      command: "node",
      args: [filesystem, "{{scratch}}"],
      readOnly: [{ from: STORE, to: "/servers" }],
    },
    fragile: { description: "Breaks", command: "node", args: ["-e", FRAGILE] },
  };
  await writeFile(join(folder, "catalogue.yaml"), JSON.stringify({ servers }));
});

afterAll(async () => {
  await database.close();
  await rm(folder, { recursive: true, force: true });
});

const given = async () => {
  const keys = parseSecretKeys(`test:${randomBytes(32).toString("base64url")}`);
  if (!keys.ok) throw new Error(keys.error);
  const catalogue = await loadCatalogue({ cataloguePath: join(folder, "catalogue.yaml"), secretsPath: undefined });
  if (!catalogue.ok) throw new Error(catalogue.error.join("\n"));
  const ends: StdioServerEnd[] = [];
  const stdio = createStdioServers({
    catalogue: catalogue.value,
    config: { unsandboxed: false, maxServers: 10, maxServersPerOrganization: 10 },
    onEnd: (end) => ends.push(end),
  });
  const outbound = createOutbound({ allowLoopback: false, mapLocalhost: false, allowHttp: false });
  const tools = createMcpTools({
    db: database.as("internal"),
    secretKeys: keys.value,
    outbound,
    limits: {},
    catalogue: stdio.open,
  });
  const closeAll = async (): Promise<void> => {
    await tools.close();
    await stdio.close();
    await outbound.close();
  };
  onTestFinished(closeAll);
  const open = (orgId: string, runId: string, mcpServers: Readonly<Record<string, McpServerUse>>): Promise<ToolSet> =>
    tools.open({
      orgId,
      runId,
      repositoryId: "repo_1",
      repositoryName: "agents",
      definition: { mcpServers, repeatable: [] },
      signal: AbortSignal.timeout(60_000),
    });
  return { open, ends, tools };
};

const use = (catalogue: string, parameters: Record<string, never> | { readonly x: string } = {}): McpServerUse => ({
  kind: "catalogue",
  catalogue,
  parameters,
  tools: "*",
});

const call = async (set: ToolSet, name: string, input: JsonObject) => {
  const tool = set.tools.find((each) => each.originalName === name);
  if (tool === undefined) throw new Error(`No tool ${name}; problems: ${set.problems.join(" ")}`);
  const notices: ToolNotice[] = [];
  const outcome = await tool.run(input, { signal: AbortSignal.timeout(60_000), notice: (each) => notices.push(each) });
  const text = outcome.content.map((each) => (each.type === "text" ? each.text : "")).join("\n");
  return { text, isError: outcome.isError, notices };
};

test("an agent uses a real server of the catalogue, and no other run or organization sees its files", async () => {
  const { open, ends, tools } = await given();
  const [acme, techcorp] = await Promise.all([database.givenOrg(), database.givenOrg()]);
  const mine = await open(acme.orgId, "run_1", { files: use("files") });
  expect(mine.problems).toEqual([]);
  const file = { path: "/scratch/order.txt" };
  expect(await call(mine, "write_file", { ...file, content: "A-1001" })).toMatchObject({ isError: false });
  expect(await call(mine, "read_text_file", file)).toMatchObject({ text: "A-1001" });
  expect(await call(mine, "read_text_file", { path: "/etc/passwd" })).toMatchObject({ isError: true });
  for (const [orgId, runId] of [
    [acme.orgId, "run_2"],
    [techcorp.orgId, "run_1"],
  ] as const) {
    const other = await open(orgId, runId, { files: use("files") });
    expect(await call(other, "read_text_file", file), runId).toMatchObject({ isError: true });
    await other.close();
  }
  await mine.close();
  await tools.close();
  await expect.poll(() => ends.map(({ reason }) => reason)).toEqual(["closed", "closed", "closed"]);
});

test("a server that dies in a call tells the model why, and the run what it complained of", async () => {
  const { open } = await given();
  const { orgId } = await database.givenOrg();
  const set = await open(orgId, "run_1", { fragile: use("fragile") });
  const { text, isError, notices } = await call(set, "die", {});
  expect(isError).toBe(true);
  expect(text).toContain("ended by itself with status 7");
  expect(notices).toEqual([{ kind: "log", level: "info", message: "no ink left" }]);
});

test("what the catalogue lacks, and parameters that do not fit, are problems of the run and not its end", async () => {
  const { open } = await given();
  const { orgId } = await database.givenOrg();
  const set = await open(orgId, "run_1", { shell: use("bash"), files: use("files", { x: "--help" }) });
  expect(set.tools).toEqual([]);
  expect(set.problems.join("\n")).toContain("There is no bash in this installation's catalogue of MCP servers");
  expect(set.problems.join("\n")).toContain("there is no x");
});
