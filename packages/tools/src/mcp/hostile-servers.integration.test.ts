import type { McpTestTool } from "@shaman/testkit";
import { describe, expect, test } from "vitest";
import type { McpLimits } from "./mcp-limits.ts";
import { charge, context, echo, mcpScene, registered, textOf, toolNamed } from "./mcp-tools.scene.ts";

const { givenServer, givenTools, givenOrg, open } = mcpScene();

describe("a server that misbehaves", () => {
  const openOne = async (tool: McpTestTool, limits: Partial<McpLimits> = {}, sse = false) => {
    const server = await givenServer([tool, echo]);
    const { orgId, register } = await givenOrg();
    const place = sse ? { url: server.sseUrl, transport: "sse" as const } : { url: server.url };
    await register({ name: "bad", ...place });
    const set = await open(givenTools(limits), { orgId }, { bad: registered() });
    return { server, set, tool: toolNamed(set, tool.name), echo: toolNamed(set, "echo") };
  };

  test("and sends 50 MB is cut off, and goes on serving", async () => {
    const big = {
      name: "big",
      run: async () => ({ content: [{ type: "text" as const, text: "x".repeat(50_000_000) }] }),
    };
    const { tool, echo: other } = await openOne(big);
    const outcome = await tool.run({}, context());
    expect(outcome).toMatchObject({ isError: true });
    expect(textOf(outcome)).toContain("sent more than 8388608 bytes");
    expect(textOf(await other.run({ text: "on" }, context()))).toBe("you said on");
  });

  test("and sends more than a model may read has its output cut", async () => {
    const wordy = {
      name: "wordy",
      run: async () => ({ content: [{ type: "text" as const, text: "x".repeat(100_000) }] }),
    };
    const { tool } = await openOne(wordy);
    const outcome = await tool.run({}, context());
    expect(outcome.isError).toBe(false);
    expect(Buffer.byteLength(textOf(outcome))).toBeLessThan(66_000);
    expect(textOf(outcome)).toContain("34464 more bytes were left out");
  });

  test("and hangs is given up after its time, and told so", async () => {
    const canceled = Promise.withResolvers<void>();
    const hang: McpTestTool = {
      name: "hang",
      run: (_input, { signal }) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener("abort", () => {
            canceled.resolve();
            reject(new Error("canceled"));
          });
        }),
    };
    const { tool } = await openOne(hang, { silenceTimeoutMs: 300 });
    const outcome = await tool.run({}, context());
    expect(outcome).toEqual({
      content: [{ type: "text", text: "The server did not answer in time." }],
      isError: true,
    });
    await canceled.promise;
  });

  test("and hangs before it speaks at all is given up too", async () => {
    const server = await givenServer([echo], { intercept: () => true });
    const { orgId, register } = await givenOrg();
    await register({ name: "bad", url: server.url });
    const set = await open(givenTools({ connectTimeoutMs: 200 }), { orgId }, { bad: registered() });
    expect(set.problems).toEqual([expect.stringContaining("not available")]);
  });

  test.each([false, true])(
    "and dies in the middle of a call fails that call at once, and works again (SSE: %s)",
    async (sse) => {
      const heard = Promise.withResolvers<void>();
      const dying: McpTestTool = {
        name: "dying",
        run: async (_input, call) => {
          await call.progress(1, 2, "so far so good");
          // The answer is under way: it is its middle that is cut, not its beginning.
          await heard.promise;
          call.die();
          return new Promise(() => undefined);
        },
      };
      const { tool, echo: other } = await openOne(dying, { silenceTimeoutMs: 5_000 }, sse);
      const outcome = await tool.run({}, { ...context(), notice: () => heard.resolve() });
      expect(outcome.isError).toBe(true);
      expect(textOf(outcome)).not.toContain("in time");
      expect(textOf(await other.run({ text: "again" }, context()))).toBe("you said again");
    },
  );

  test("and is lost again and again is left alone for a while instead of being opened for ever", async () => {
    const dying: McpTestTool = {
      name: "dying",
      run: async (_input, call) => {
        call.die();
        return new Promise(() => undefined);
      },
    };
    const { tool, server } = await openOne(dying, {}, true);
    const outcomes: string[] = [];
    for (let attempt = 0; attempt < 6; attempt += 1) outcomes.push(textOf(await tool.run({}, context())));
    expect(outcomes.at(-1)).toContain("left alone for a while");
    expect(server.sessions).toHaveLength(4);
  });

  test("and forgets its session gets the call once more on a new one", async () => {
    const { echo: tool, server } = await openOne(charge);
    server.forgetSessions();
    expect(textOf(await tool.run({ text: "still" }, context()))).toBe("you said still");
    expect(server.sessions).toHaveLength(2);
  });

  test("and floods a call with progress and log messages is heard up to a bound, each message shortened", async () => {
    const flood: McpTestTool = {
      name: "flood",
      run: async (_input, call) => {
        for (let each = 0; each < 1_000; each += 1) await call.progress(each, 1_000, "y".repeat(5_000));
        return { content: [{ type: "text", text: "done" }] };
      },
    };
    const { tool } = await openOne(flood);
    const given = context();
    expect(textOf(await tool.run({}, given))).toBe("done");
    expect(given.notices.length).toBe(200);
    for (const notice of given.notices) expect(notice.message?.length ?? 0).toBeLessThanOrEqual(2_001);
  });

  test("and breaks its own output schema is an error, not an answer", async () => {
    const lying: McpTestTool = {
      name: "lying",
      outputSchema: { type: "object", properties: { total: { type: "number" } }, required: ["total"] },
      run: async () => ({ content: [], structuredContent: { total: "much" } }),
    };
    const { tool } = await openOne(lying);
    const outcome = await tool.run({}, context());
    expect(outcome.isError).toBe(true);
    expect(textOf(outcome)).toContain("does not fit its own schema");
  });

  test("and describes one tool as MCP does not allow, or with a schema that must not be run, keeps its other tools", async () => {
    const server = await givenServer([
      { name: "odd", inputSchema: "none" },
      { name: "far", inputSchema: { type: "object", properties: { a: { $ref: "https://example.com/s.json" } } } },
      { name: "huge", description: "x".repeat(70_000) },
      echo,
    ]);
    const { orgId, register } = await givenOrg();
    await register({ name: "bad", url: server.url });
    const set = await open(givenTools(), { orgId }, { bad: registered() });
    expect(set.tools.map(({ originalName }) => originalName)).toEqual(["echo"]);
    expect(set.problems).toHaveLength(3);
  });
});
