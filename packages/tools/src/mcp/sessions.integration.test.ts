import { Secret } from "@shaman/kernel";
import { registerMcpServer } from "@shaman/mcp";
import { createOutbound } from "@shaman/outbound";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { context, echo, inline, mcpScene, registered, toolNamed } from "./mcp-tools.scene.ts";

const { givenServer, givenTools, givenOrg, open, inspect } = mcpScene();

describe("credentials and sessions", () => {
  test("headers are sealed, reach the server, and do not follow a redirect or an address that was changed", async () => {
    const server = await givenServer([echo]);
    const elsewhere = await givenServer([echo]);
    const { orgId, register } = await givenOrg();
    const headers = { "x-api-key": new Secret("canary-7731") };
    await register({ name: "shop", url: server.url, auth: { kind: "headers", headers } });
    const first = await open(givenTools(), { orgId }, { shop: registered() });
    await toolNamed(first, "echo").run({ text: "x" }, context());
    expect(server.requests.every((request) => request.headers["x-api-key"] === "canary-7731")).toBe(true);
    const rows = await inspect("SELECT * FROM secret WHERE org_id = $1", [orgId]);
    expect(JSON.stringify(rows)).not.toContain("canary-7731");

    await inspect("UPDATE mcp_server SET url = $2 WHERE org_id = $1", [orgId, elsewhere.url]);
    const moved = await open(givenTools(), { orgId }, { shop: registered() });
    expect(moved.problems).toEqual([expect.stringContaining("stored for another address")]);
    expect(elsewhere.requests).toEqual([]);
  });

  test("a redirect to another host is not followed", async () => {
    const elsewhere = await givenServer([echo]);
    const server = await givenServer([echo], {
      intercept: (_incoming, outgoing) => {
        outgoing.writeHead(307, { location: elsewhere.url }).end();
        return true;
      },
    });
    const { orgId, register } = await givenOrg();
    const headers = { authorization: new Secret("Bearer canary") };
    await register({ name: "shop", url: server.url, auth: { kind: "headers", headers } });
    const set = await open(givenTools(), { orgId }, { shop: registered() });
    expect(set.tools).toEqual([]);
    expect(elsewhere.requests).toEqual([]);
  });

  test("two organizations with the same address never share a session, nor do two runs of one", async () => {
    const server = await givenServer([echo]);
    const tools = givenTools();
    const [one, two] = [await givenOrg(), await givenOrg()];
    for (const org of [one, two]) await org.register({ name: "shop", url: server.url });
    await open(tools, { orgId: one.orgId, runId: "run_a" }, { shop: registered() });
    await open(tools, { orgId: one.orgId, runId: "run_a" }, { shop: registered() });
    expect(server.sessions).toHaveLength(1);
    await open(tools, { orgId: one.orgId, runId: "run_b" }, { shop: registered() });
    await open(tools, { orgId: two.orgId, runId: "run_a" }, { shop: registered() });
    expect(new Set(server.sessions).size).toBe(3);
  });

  test("two organizations never share a session of a server that their agent files name, whatever else is the same", async () => {
    const server = await givenServer([echo]);
    const tools = givenTools();
    for (const org of [await givenOrg(), await givenOrg()]) {
      const set = await open(tools, { orgId: org.orgId, runId: "run_a" }, { site: inline(server.url) });
      expect(set.tools).toHaveLength(1);
    }
    expect(server.sessions).toHaveLength(2);
  });

  test("runs share the session of a server registered as stateless, within their organization", async () => {
    const server = await givenServer([echo]);
    const tools = givenTools();
    const [one, two] = [await givenOrg(), await givenOrg()];
    for (const org of [one, two]) await org.register({ name: "shop", url: server.url, stateless: true });
    await open(tools, { orgId: one.orgId }, { shop: registered() });
    await open(tools, { orgId: one.orgId }, { shop: registered() });
    await open(tools, { orgId: two.orgId }, { shop: registered() });
    expect(server.sessions).toHaveLength(2);
  });

  test("runs that come upon a server at the same time all have its tools, shared session or not", async () => {
    const server = await givenServer([echo]);
    const tools = givenTools();
    for (const stateless of [true, false]) {
      const { orgId, register } = await givenOrg();
      await register({ name: "shop", url: server.url, stateless });
      const sets = await Promise.all(
        Array.from({ length: 10 }, () => open(tools, { orgId }, { shop: registered(["echo"]) })),
      );
      expect(sets.flatMap(({ problems }) => problems)).toEqual([]);
      expect(sets.map((set) => set.tools.length)).toEqual(sets.map(() => 1));
      const outcomes = await Promise.all(sets.map((set) => toolNamed(set, "echo").run({ text: "x" }, context())));
      expect(outcomes.filter(({ isError }) => isError)).toEqual([]);
    }
  });

  test("a session that nobody uses is ended, at the server too", async () => {
    const server = await givenServer([echo]);
    const { orgId, register } = await givenOrg();
    await register({ name: "shop", url: server.url });
    const tools = givenTools({ runIdleMs: 20 });
    const set = await open(tools, { orgId }, { shop: registered() });
    expect(tools.openSessions()).toBe(1);
    await set.close();
    await vi.waitFor(() => expect(server.ended).toEqual(server.sessions), { timeout: 10_000 });
    expect(tools.openSessions()).toBe(0);
  });

  test("sessions are bounded: idle ones make room, and when none is the run is told", async () => {
    const server = await givenServer([echo]);
    const { orgId, register } = await givenOrg();
    await register({ name: "shop", url: server.url });
    const tools = givenTools({ maxSessions: 1 });
    const first = await open(tools, { orgId }, { shop: registered() });
    const second = await open(tools, { orgId }, { shop: registered() });
    expect(second.problems).toEqual([expect.stringContaining("1 sessions")]);
    await first.close();
    expect((await open(tools, { orgId }, { shop: registered() })).tools).toHaveLength(1);
  });
});

describe("addresses that must not be reached", () => {
  const production = () => {
    const outbound = createOutbound({ allowLoopback: false, mapLocalhost: false });
    onTestFinished(outbound.close);
    return outbound;
  };

  test("are refused when a server is registered, and when an agent file names one", async () => {
    const outbound = production();
    const { orgId, manage, operator } = await givenOrg();
    for (const url of [
      "http://169.254.169.254/mcp",
      "https://10.0.0.1/mcp",
      "https://127.0.0.1/mcp",
      "https://[::1]/",
    ]) {
      const result = await registerMcpServer({ ...manage, checkUrl: outbound.checkUrl }, operator, { name: "x", url });
      expect(result.ok ? "ok" : result.error.code).toBe("outbound_refused");
      const set = await open(givenTools({}, outbound), { orgId }, { site: inline(url) });
      expect(set.tools).toEqual([]);
      expect(set.problems).toEqual([expect.stringContaining("not available")]);
    }
  });

  test("are refused when a server redirects to them", async () => {
    const server = await givenServer([echo], {
      intercept: (_incoming, outgoing) => {
        outgoing.writeHead(307, { location: "http://169.254.169.254/latest/meta-data/" }).end();
        return true;
      },
    });
    const { orgId } = await givenOrg();
    const set = await open(givenTools(), { orgId }, { site: inline(server.url) });
    expect(set.problems).toEqual([expect.stringContaining("not available")]);
  });
});
