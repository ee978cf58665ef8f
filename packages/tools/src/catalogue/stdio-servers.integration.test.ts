import { readdirSync } from "node:fs";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { CallToolResultSchema } from "@modelcontextprotocol/sdk/types.js";
import { unwrap } from "@shaman/kernel";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";

import { findSandboxPrograms } from "../sandbox/sandbox-programs.ts";
import { loadCatalogue } from "./load-catalogue.ts";
import { createStdioServers, type CatalogueUse, type StdioServerEnd, type StdioServersDeps } from "./stdio-servers.ts";

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "shaman-catalogue-test-"));
  await chmod(folder, 0o755);
  await writeFile(join(folder, "server.js"), SERVER);
});

afterAll(() => rm(folder, { recursive: true, force: true }));

/** Answers each call with its arguments and environment; dies at the tool `die`. */
const SERVER = `
  const say = (value) => process.stdout.write(JSON.stringify({ jsonrpc: "2.0", ...value }) + "\\n");
  require("node:readline").createInterface({ input: process.stdin }).on("line", (line) => {
    const { id, method, params } = JSON.parse(line);
    if (method === "initialize") say({ id, result: { protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: "s", version: "1" } } });
    else if (method === "tools/call" && params.name === "die") process.exit(7);
    else if (method === "tools/call") {
      const fs = require("node:fs");
      fs.appendFileSync(process.argv[3] + "/calls", "x");
      const told = { args: process.argv.slice(2), token: process.env.TOKEN, calls: fs.readFileSync(process.argv[3] + "/calls", "utf8"), passwd: fs.existsSync("/etc/passwd"), variables: Object.keys(process.env).toSorted() };
      say({ id, result: { content: [{ type: "text", text: JSON.stringify(told) }] } });
    }
  });
`;

const CATALOGUE = (readOnly: string) => `
servers:
  told:
    description: Says what it was given
    command: node
    args: ["${readOnly}/server.js", "{{customer}}", "{{scratch}}"]
    parameters: { type: object, properties: { customer: { type: string } }, required: [customer] }
    environment: { TOKEN: told-token }
    readOnly: ["${readOnly}"]
    limits: { restarts: 1 }
`;

const given = async (config: Partial<StdioServersDeps["config"]> = {}, more: Partial<StdioServersDeps> = {}) => {
  const place = await mkdtemp(join(folder, "c-"));
  const cataloguePath = join(place, "catalogue.yaml");
  const secretsPath = join(place, "secrets.yaml");
  await writeFile(cataloguePath, CATALOGUE(folder));
  await writeFile(secretsPath, "told-token: canary-4711", { mode: 0o600 });
  const catalogue = await loadCatalogue({ cataloguePath, secretsPath });
  if (!catalogue.ok) throw new Error(catalogue.error.join("\n"));
  const ends: StdioServerEnd[] = [];
  const servers = createStdioServers({
    catalogue: catalogue.value,
    config: { unsandboxed: false, maxServers: 10, maxServersPerOrganization: 5, ...config },
    onEnd: (end) => ends.push(end),
    ...more,
  });
  onTestFinished(() => servers.close());
  const connect = async (use: Partial<CatalogueUse> = {}) => {
    const transport = unwrap(await servers.open({ ...USE, ...use }));
    const client = new Client({ name: "test", version: "1" });
    await client.connect(transport);
    const call = async (name: string) => {
      const { content } = await client.request(
        { method: "tools/call", params: { name, arguments: {} } },
        CallToolResultSchema,
      );
      const [part] = content;
      return part?.type === "text" ? Object(JSON.parse(part.text)) : part;
    };
    return { client, call };
  };
  return { servers, ends, connect };
};

const USE: CatalogueUse = { orgId: "org_a", runId: "run_1", catalogue: "told", parameters: { customer: "acme" } };

test("an agent's use of the catalogue starts the operator's program with its parameters, in a sandbox", async () => {
  const { connect, ends } = await given();
  const { call, client } = await connect();
  expect(await call("tell")).toEqual({
    args: ["acme", "/scratch"],
    token: "canary-4711",
    calls: "x",
    passwd: false,
    variables: ["HOME", "LANG", "PATH", "TMPDIR", "TOKEN"],
  });
  await client.close();
  expect(ends).toMatchObject([{ orgId: "org_a", runId: "run_1", catalogue: "told", reason: "closed" }]);
});

test("two runs have two processes with a folder each, also at the same time", async () => {
  const { connect } = await given();
  const [one, two] = await Promise.all([connect(), connect({ runId: "run_2" })]);
  await one.call("tell");
  expect(await one.call("tell")).toMatchObject({ calls: "xx" });
  expect(await two.call("tell")).toMatchObject({ calls: "x" });
});

test("what is not in the catalogue, or does not fit its schema, starts nothing", async () => {
  const { servers } = await given();
  expect(await servers.open({ ...USE, catalogue: "sh" })).toMatchObject({
    ok: false,
    error: { code: "mcp_server_not_found", kind: "user" },
  });
  for (const parameters of [{}, { customer: 1 }, { customer: "-x" }, { customer: "x", command: "sh" }]) {
    expect(await servers.open({ ...USE, parameters }), JSON.stringify(parameters)).toMatchObject({
      ok: false,
      error: { code: "mcp_parameters_invalid" },
    });
  }
});

test("a server that breaks down is started again as often as the operator allows, in each run", async () => {
  const { connect, servers, ends } = await given();
  for (const _ of [1, 2]) {
    const { call } = await connect();
    await expect(call("die")).rejects.toThrow("ended by itself with status 7");
  }
  await expect.poll(() => ends.length).toBe(2);
  const refused = await servers.open(USE);
  expect(refused).toMatchObject({ ok: false, error: { code: "sandbox_failed" } });
  expect(refused.ok ? "" : refused.error.message).toContain("broke down 2 times in this run");
  await connect({ runId: "run_2" });
});

test("there are never more servers than allowed, in all and of one organization, and a closed one makes room", async () => {
  const { connect } = await given({ maxServers: 3, maxServersPerOrganization: 2 });
  const first = await connect();
  await connect({ runId: "run_2" });
  await expect(connect({ runId: "run_3" })).rejects.toThrow("The organization has as many");
  await connect({ orgId: "org_b" });
  await expect(connect({ orgId: "org_b", runId: "run_2" })).rejects.toThrow("This process has as many");
  await first.client.close();
  await connect({ orgId: "org_b", runId: "run_2" });
});

test("closing ends every server and lets none start", async () => {
  const { connect, servers, ends } = await given();
  const { call } = await connect();
  const waiting = unwrap(await servers.open({ ...USE, runId: "run_2" }));
  const starting = waiting.start().catch((error: unknown) => String(error));
  await servers.close();
  await expect(call("tell")).rejects.toThrow();
  await starting;
  await expect.poll(() => ends.length).toBe(2);
  expect(await servers.open(USE)).toMatchObject({ ok: false, error: { code: "sandbox_unavailable" } });
});

test("a machine without bubblewrap refuses with a sentence that says what to do", async () => {
  const { servers } = await given({}, { findPrograms: () => findSandboxPrograms(async () => undefined) });
  const refused = await servers.open(USE);
  expect(refused).toMatchObject({ ok: false, error: { code: "sandbox_unavailable" } });
  expect(refused.ok ? "" : refused.error.message).toContain("apt-get install bubblewrap");
});

test("without a sandbox, by the operator's word, a server has its own environment and folder and leaves nothing", async () => {
  const scratchFolders = () => readdirSync(tmpdir()).filter((name) => name.startsWith("shaman-mcp-"));
  const before = scratchFolders();
  const { connect, ends } = await given({ unsandboxed: true });
  const { call, client } = await connect();
  expect(await call("tell")).toMatchObject({
    token: "canary-4711",
    passwd: true,
    variables: ["HOME", "LANG", "PATH", "TMPDIR", "TOKEN"],
  });
  expect(scratchFolders().length).toBe(before.length + 1);
  await client.close();
  expect(ends).toMatchObject([{ reason: "closed" }]);
  await expect.poll(scratchFolders).toEqual(before);
});

test("secrets that every user may read, and files that are not there, are told at the start", async () => {
  const cataloguePath = join(folder, "open.yaml");
  await writeFile(cataloguePath, "servers: {}");
  await chmod(cataloguePath, 0o644);
  const open = await loadCatalogue({ cataloguePath, secretsPath: cataloguePath });
  expect(open.ok ? [] : open.error).toEqual([expect.stringContaining("chmod o-r")]);
  const missing = await loadCatalogue({
    cataloguePath: join(folder, "none.yaml"),
    secretsPath: join(folder, "none2.yaml"),
  });
  expect(missing.ok ? [] : missing.error).toHaveLength(2);
  expect(await loadCatalogue({ cataloguePath: undefined, secretsPath: undefined })).toMatchObject({ ok: true });
});
