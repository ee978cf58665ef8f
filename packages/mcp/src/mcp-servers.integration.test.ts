import { randomBytes } from "node:crypto";
import { createOperatorPrincipal, type Principal } from "@shaman/access";
import { Secret, unwrap, type Result } from "@shaman/kernel";
import { createOutbound, type Outbound } from "@shaman/outbound";
import { parseSecretKeys } from "@shaman/secrets";
import { testDatabase, type TestDatabase } from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { approveMcpTools } from "./approve-mcp-tools.ts";
import { findMcpServer } from "./find-mcp-server.ts";
import { getMcpSource, listMcpSources } from "./list-mcp-sources.ts";
import { registerMcpServer, type RegisterMcpServerInput } from "./register-mcp-server.ts";
import { removeMcpServer } from "./remove-mcp-server.ts";
import { hashTool, recordSighting, type McpSource } from "./tool-sighting.ts";

let database: TestDatabase;
let outbound: Outbound;
const keys = parseSecretKeys(`test:${randomBytes(32).toString("base64url")}`);
if (!keys.ok) throw new Error(keys.error);
const secretKeys = keys.value;

beforeAll(async () => {
  database = await testDatabase();
  outbound = createOutbound({ allowLoopback: false, mapLocalhost: false, resolve: async () => ["93.184.216.34"] });
});
afterAll(async () => {
  await outbound.close();
  await database.close();
});

const given = async () => {
  const { orgId } = await database.givenOrg();
  const deps = { db: database.as("web"), origin: { server: "test" }, secretKeys, checkUrl: outbound.checkUrl };
  return { orgId, deps, operator: createOperatorPrincipal({ orgId, name: "test" }) };
};

const codeOf = (result: Result<unknown>): string => (result.ok ? "ok" : result.error.code);
const url = "https://tools.example.com/mcp";

describe("a registered MCP server", () => {
  test("keeps its headers sealed, shows them nowhere, and gives them to who runs agents", async () => {
    const { orgId, deps, operator } = await given();
    const auth = { kind: "headers" as const, headers: { "X-Api-Key": new Secret("canary-1") } };
    unwrap(await registerMcpServer(deps, operator, { name: "shop", url, auth }));
    const tables = await Promise.all(
      ["mcp_server", "secret", "audit_log"].map((table) =>
        database.inspect(`SELECT * FROM ${table} WHERE org_id = $1`, [orgId]),
      ),
    );
    expect(tables.map((rows) => rows.length)).toEqual([1, 1, 1]);
    const listed = unwrap(await listMcpSources(deps, operator));
    expect(JSON.stringify([tables, listed])).not.toContain("canary-1");
    const found = unwrap(await findMcpServer({ db: database.as("internal"), secretKeys }, { orgId, name: "shop" }));
    expect(found.headers).toEqual({ "X-Api-Key": "canary-1" });
  });

  test("goes with its secret and its tools when it is removed, and its name is free again", async () => {
    const { orgId, deps, operator } = await given();
    const auth = { kind: "headers" as const, headers: { "X-Api-Key": new Secret("canary-2") } };
    const input: RegisterMcpServerInput = { name: "shop", url, auth };
    const { serverId } = unwrap(await registerMcpServer(deps, operator, input));
    expect(codeOf(await registerMcpServer(deps, operator, input))).toBe("mcp_server_exists");
    const source: McpSource = { kind: "registered", id: serverId, label: "shop" };
    await recordSighting(deps, { orgId, source, tools: [{ name: "a", definition: {} }], by: { actor: "test" } });
    unwrap(await removeMcpServer(deps, operator, { name: "shop" }));
    for (const table of ["mcp_server", "mcp_source", "mcp_tool", "secret"]) {
      expect(await database.inspect(`SELECT 1 FROM ${table} WHERE org_id = $1`, [orgId]), table).toEqual([]);
    }
    expect(codeOf(await removeMcpServer(deps, operator, { name: "shop" }))).toBe("mcp_server_not_found");
    unwrap(await registerMcpServer(deps, operator, input));
  });

  test("takes no address that must not be called, and no header that would change the request itself", async () => {
    const { deps, operator } = await given();
    const attempt = (input: Partial<RegisterMcpServerInput>) =>
      registerMcpServer(deps, operator, { name: "shop", url, ...input }).then(codeOf);
    expect(await attempt({ url: "http://tools.example.com/mcp" })).toBe("outbound_refused");
    expect(await attempt({ url: "https://user:word@tools.example.com/" })).toBe("outbound_refused");
    expect(await attempt({ url: "https://192.168.1.1/" })).toBe("outbound_refused");
    expect(await attempt({ name: "a b" })).toBe("invalid_input");
    const withHeader = (name: string, value: string) =>
      attempt({ auth: { kind: "headers", headers: { [name]: new Secret(value) } } });
    expect(await withHeader("Host", "other")).toBe("invalid_input");
    expect(await withHeader("Mcp-Session-Id", "other")).toBe("invalid_input");
    expect(await withHeader("X-A", "one\r\nX-B: two")).toBe("invalid_input");
    expect(await withHeader("X A", "one")).toBe("invalid_input");
  });

  test("is for those who may only, and for one organization", async () => {
    const [mine, theirs] = [await given(), await given()];
    const { serverId } = unwrap(await registerMcpServer(theirs.deps, theirs.operator, { name: "shop", url }));
    expect(unwrap(await listMcpSources(mine.deps, mine.operator)).sources).toEqual([]);
    expect(codeOf(await getMcpSource(mine.deps, mine.operator, serverId))).toBe("mcp_server_not_found");
    expect(codeOf(await removeMcpServer(mine.deps, mine.operator, { name: serverId }))).toBe("mcp_server_not_found");
    const nobody: Principal = { ...mine.operator, can: () => false };
    for (const result of [
      await registerMcpServer(mine.deps, nobody, { name: "shop", url }),
      await listMcpSources(mine.deps, nobody),
      await getMcpSource(mine.deps, nobody, "shop"),
      await removeMcpServer(mine.deps, nobody, { name: "shop" }),
      await approveMcpTools(mine.deps, nobody, { sourceId: "x", tools: [] }),
    ]) {
      expect(codeOf(result)).toBe("forbidden");
    }
  });

  test("is listed page by page with what agent files name beside it", async () => {
    const { orgId, deps, operator } = await given();
    for (const name of ["b", "a"]) unwrap(await registerMcpServer(deps, operator, { name, url }));
    const source: McpSource = { kind: "inline", id: "inline_1", label: "https://c.example.com of agents" };
    await recordSighting(deps, { orgId, source, tools: [], by: { actor: "test" } });
    const labels: string[] = [];
    let after: string | undefined;
    for (let pages = 0; pages < 3; pages += 1) {
      const page = unwrap(await listMcpSources(deps, operator, { first: 1, ...(after !== undefined && { after }) }));
      labels.push(...page.sources.map(({ label }) => label));
      after = page.endCursor ?? undefined;
    }
    expect(labels).toEqual(["a", "b", "https://c.example.com of agents"]);
    expect(after).toBeUndefined();
    expect(codeOf(await listMcpSources(deps, operator, { after: "rubbish" }))).toBe("invalid_input");
  });
});

describe("what a source offers", () => {
  const source: McpSource = { kind: "inline", id: "inline_2", label: "somewhere" };
  const one = { name: "one", definition: { description: "a", inputSchema: { type: "object" } } };

  test("has the same hash whatever the order of its keys, and another when anything of it changes", () => {
    const turned = { name: "one", definition: { inputSchema: { type: "object" }, description: "a" } };
    expect(hashTool(turned)).toBe(hashTool(one));
    expect(hashTool({ ...one, definition: { ...one.definition, description: "b" } })).not.toBe(hashTool(one));
  });

  test("is approved at first sight even when many see it first at once", async () => {
    const { orgId } = await given();
    const looks = Array.from({ length: 8 }, () =>
      recordSighting(
        { db: database.as("internal") },
        { orgId, source, tools: [one], by: { actor: "system:internal", runId: "run_1" } },
      ),
    );
    for (const standings of await Promise.all(looks)) expect(standings.get("one")).toBe("approved");
  });

  test("is audited once with what it approved, in the transaction that approves it", async () => {
    const { orgId } = await given();
    const deps = { db: database.as("internal") };
    const by = { actor: "system:internal", server: "internal", runId: "run_1" };
    await Promise.all(Array.from({ length: 8 }, () => recordSighting(deps, { orgId, source, tools: [one], by })));
    await recordSighting(deps, { orgId, source, tools: [one, { ...one, name: "two" }], by });
    const rows = await database.inspect("SELECT * FROM audit_log WHERE org_id = $1", [orgId]);
    expect(rows).toMatchObject([
      {
        actor: "system:internal",
        action: "mcpServer:approve",
        result: "ok",
        run_id: "run_1",
        server: "internal",
        details: { sourceId: "inline_2", firstSight: true, tools: [{ name: "one", hash: hashTool(one) }] },
      },
    ]);
    expect(rows[0]?.["resource"]).toContain("somewhere");
    // An audit row that cannot be written leaves the source unseen.
    const other: McpSource = { ...source, id: "inline_3" };
    const broken = { actor: "broken", runId: "\0" };
    await expect(recordSighting(deps, { orgId, source: other, tools: [], by: broken })).rejects.toThrow();
    expect(await database.inspect("SELECT 1 FROM mcp_source WHERE org_id = $1 AND id = 'inline_3'", [orgId])).toEqual(
      [],
    );
  });

  test("cannot be approved by the process that runs agents once it is known", async () => {
    const { orgId } = await given();
    const deps = { db: database.as("internal") };
    await recordSighting(deps, { orgId, source, tools: [one], by: { actor: "system:internal", runId: "run_1" } });
    await expect(
      deps.db.withOrg(orgId, (tx) => tx.query({ text: "UPDATE mcp_tool SET approved_hash = seen_hash" })),
    ).rejects.toThrow(/permission denied/);
  });
});
