import { startMcpServer, type McpTestTool } from "@shaman/testkit";
import { describe, expect, test } from "vitest";
import { charge, context, echo, mcpScene, registered, textOf, toolNamed } from "./mcp-tools.scene.ts";

const { givenServer, givenTools, givenOrg, open } = mcpScene();

describe("tools of a registered MCP server", () => {
  test("are offered by name, schema and allow-list, and answer", async () => {
    const server = await givenServer([echo, charge]);
    const { orgId, register } = await givenOrg();
    await register({ name: "shop", url: server.url });
    const set = await open(givenTools(), { orgId }, { shop: registered(["echo", "refund"]) });
    expect(set.tools.map(({ spec }) => spec.name)).toEqual(["shop__echo"]);
    expect(set.problems).toEqual(["The MCP server shop has no tool refund."]);
    const tool = toolNamed(set, "echo");
    expect(tool.spec).toMatchObject({ description: "Says it again", inputSchema: echo.inputSchema });
    expect(tool).toMatchObject({ server: "shop", repeatable: true });
    expect(await tool.run({ text: "hi" }, context())).toEqual({
      content: [{ type: "text", text: "you said hi" }],
      isError: false,
    });
    await set.close();
  });

  test("are repeatable by their annotation or the agent's word only", async () => {
    const server = await givenServer([
      echo,
      charge,
      { name: "same", annotations: { idempotentHint: true } },
      { name: "marked" },
    ]);
    const { orgId, register } = await givenOrg();
    await register({ name: "shop", url: server.url });
    const set = await open(givenTools(), { orgId }, { shop: registered() }, ["shop__marked"]);
    expect(Object.fromEntries(set.tools.map((tool) => [tool.originalName, tool.repeatable]))).toEqual({
      echo: true,
      charge: false,
      same: true,
      marked: true,
    });
  });

  test("get no input that does not fit their schema: the model is told and the server never asked", async () => {
    const server = await givenServer([echo]);
    const { orgId, register } = await givenOrg();
    await register({ name: "shop", url: server.url });
    const set = await open(givenTools(), { orgId }, { shop: registered() });
    const outcome = await toolNamed(set, "echo").run({ text: 7 }, context());
    expect(outcome.isError).toBe(true);
    expect(textOf(outcome)).toContain("does not fit the tool's schema");
    expect(server.calls).toEqual([]);
  });

  test("are not there when the server is unknown or away, and the run is told in a sentence", async () => {
    const server = await startMcpServer({ tools: [echo] });
    const { orgId, register } = await givenOrg();
    await register({ name: "shop", url: server.url });
    await server.close();
    const set = await open(givenTools(), { orgId }, { shop: registered(), none: registered() });
    expect(set.tools).toEqual([]);
    expect(set.problems).toHaveLength(2);
    expect(set.problems.join(" ")).toContain("The MCP server shop is not available");
    expect(set.problems.join(" ")).toContain('This organization has no MCP server "none"');
  });
});

describe("a call under way", () => {
  test("tells its progress and log messages", async () => {
    const slow: McpTestTool = {
      name: "slow",
      run: async (_input, call) => {
        await call.progress(1, 2, "half");
        await call.log("working");
        return { content: [{ type: "text", text: "done" }] };
      },
    };
    const server = await givenServer([slow]);
    const { orgId, register } = await givenOrg();
    await register({ name: "shop", url: server.url });
    const set = await open(givenTools(), { orgId }, { shop: registered() });
    const given = context();
    await toolNamed(set, "slow").run({}, given);
    expect(given.notices).toEqual([
      { kind: "progress", progress: 1, total: 2, message: "half" },
      { kind: "log", level: "info", message: "working" },
    ]);
  });

  test("is canceled at the server when the run is, and rejects", async () => {
    const begun = Promise.withResolvers<void>();
    const canceled = Promise.withResolvers<void>();
    const hang: McpTestTool = {
      name: "hang",
      run: (_input, { signal }) =>
        new Promise((_resolve, reject) => {
          begun.resolve();
          signal.addEventListener("abort", () => {
            canceled.resolve();
            reject(new Error("canceled"));
          });
        }),
    };
    const server = await givenServer([hang]);
    const { orgId, register } = await givenOrg();
    await register({ name: "shop", url: server.url });
    const set = await open(givenTools(), { orgId }, { shop: registered() });
    const stop = new AbortController();
    const outcome = toolNamed(set, "hang").run({}, context(stop.signal));
    outcome.catch(() => undefined);
    await begun.promise;
    stop.abort(new Error("the run was canceled"));
    await expect(outcome).rejects.toThrow("the run was canceled");
    await canceled.promise;
  });
});

test("a run that is canceled while a server does not answer waits for it no longer", async () => {
  const asked = Promise.withResolvers<void>();
  const server = await givenServer([echo], {
    intercept: () => {
      asked.resolve();
      return true;
    },
  });
  const { orgId, register } = await givenOrg();
  await register({ name: "shop", url: server.url });
  const stop = new AbortController();
  const set = givenTools({ connectTimeoutMs: 600_000 }).open({
    orgId,
    runId: "run_1",
    repositoryId: "repo_1",
    repositoryName: "agents",
    definition: { mcpServers: { shop: registered() }, repeatable: [] },
    signal: stop.signal,
  });
  set.catch(() => undefined);
  await asked.promise;
  stop.abort(new Error("the run was canceled"));
  await expect(set).rejects.toThrow("the run was canceled");
});

describe("resources and prompts", () => {
  test("are read by agents that ask for them, and by no others", async () => {
    const server = await givenServer([echo], {
      resources: { "note://one": "a note" },
      prompts: { greet: "Say hello" },
    });
    const { orgId, register } = await givenOrg();
    await register({ name: "shop", url: server.url });
    const tools = givenTools();
    expect((await open(tools, { orgId }, { shop: registered() })).tools).toHaveLength(1);
    const set = await open(tools, { orgId }, { shop: registered(["echo", "resources", "prompts"]) });
    expect(set.tools.map(({ spec }) => spec.name)).toEqual([
      "shop__echo",
      "shop__list_resources",
      "shop__read_resource",
      "shop__list_prompts",
      "shop__get_prompt",
    ]);
    expect(textOf(await toolNamed(set, "list_resources").run({}, context()))).toContain("note://one");
    const read = await toolNamed(set, "read_resource").run({ uri: "note://one" }, context());
    expect(read.content).toEqual([{ type: "resource", uri: "note://one", mediaType: "text/plain", text: "a note" }]);
    expect(textOf(await toolNamed(set, "get_prompt").run({ name: "greet" }, context()))).toContain("Say hello");
    expect((await toolNamed(set, "read_resource").run({}, context())).isError).toBe(true);
  });
});
