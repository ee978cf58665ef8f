import { writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import type { McpServerUse } from "@shaman/agents";
import type { JsonObject } from "@shaman/kernel";
import { givenHostileMcp, heldMegabytes, type HostileMcp } from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { loadCatalogue } from "../catalogue/load-catalogue.ts";
import { createStdioServers } from "../catalogue/stdio-servers.ts";
import type { ToolSet } from "../tool.ts";
import type { McpLimits } from "./mcp-limits.ts";
import { context, echo, inline, mcpScene, textOf, toolNamed } from "./mcp-tools.scene.ts";

const { givenServer, givenTools, givenOrg, open, databaseUrl } = mcpScene();

let hostileMcp: HostileMcp;
beforeAll(async () => {
  hostileMcp = await givenHostileMcp();
});
afterAll(() => hostileMcp.close());

type Wire = "stdio" | "streamable HTTP" | "HTTP+SSE";

const catalogueUse: McpServerUse = { kind: "catalogue", catalogue: "hostile", parameters: {}, tools: "*" };

const useOver = async (wire: Wire): Promise<McpServerUse> => {
  if (wire === "stdio") return catalogueUse;
  const address = await hostileMcp.serve();
  return wire === "HTTP+SSE" ? inline(`${address}/sse`, "sse") : inline(`${address}/mcp`);
};

const givenCatalogue = async () => {
  const catalogue = await loadCatalogue({ cataloguePath: hostileMcp.cataloguePath, secretsPath: undefined });
  if (!catalogue.ok) throw new Error(catalogue.error.join("\n"));
  const config = { unsandboxed: false, maxServers: 10, maxServersPerOrganization: 10 };
  const stdio = createStdioServers({ catalogue: catalogue.value, config });
  onTestFinished(stdio.close);
  return stdio.open;
};

/** Two runs of two organizations in this process: one whose tools are bad, and one whose tool is as it should be. */
const given = async (use: McpServerUse, limits: Partial<McpLimits> = {}) => {
  const tools = givenTools(limits, undefined, await givenCatalogue());
  const [bad, good] = [await givenOrg(), await givenOrg()];
  const server = await givenServer([echo]);
  const hostile = await open(tools, { orgId: bad.orgId }, { hostile: use });
  expect(hostile.problems).toEqual([]);
  const working = await open(tools, { orgId: good.orgId }, { shop: inline(server.url) });
  return { hostile, working, tools };
};

const run = (set: ToolSet, name: string, input: JsonObject = {}) => toolNamed(set, name).run(input, context());

const works = async (working: ToolSet): Promise<void> => {
  expect(textOf(await run(working, "echo", { text: "on" }))).toBe("you said on");
};

/** The most that this process came to hold in memory meanwhile, beyond what it had. */
const mostHeld = async (work: Promise<unknown>): Promise<number> => {
  const before = heldMegabytes();
  let most = 0;
  const look = setInterval(() => {
    most = Math.max(most, heldMegabytes() - before);
  }, 50);
  await work.finally(() => clearInterval(look));
  return Math.max(most, heldMegabytes() - before);
};

/** What one message may be, with what reading it takes: characters of two bytes, and a copy. */
const MOST_MEGABYTES = 64;

const TROUBLES = [
  ["big", "returns 50 MB", /sent more than|wrote more than|closed the connection/],
  ["hang", "hangs", /did not answer in time/],
  ["flood", "floods its output", /sent more than|wrote more than|closed the connection/],
  ["die", "dies", /ended by itself with status 7|closed the connection|before it was complete|could not be reached/],
  ["lie", "lies about its schema", /does not fit its own schema/],
] as const;

describe.each<Wire>(["stdio", "streamable HTTP", "HTTP+SSE"])("a tool over %s", (wire) => {
  test.each(TROUBLES)(
    "(%s) that %s is an error for the model, and everybody else goes on",
    async (name, _, sentence) => {
      const { hostile, working } = await given(await useOver(wire), name === "hang" ? { silenceTimeoutMs: 300 } : {});
      const call = run(hostile, name);
      const held = mostHeld(call);
      // Others are served while it happens, and after it.
      await works(working);
      const outcome = await call;
      expect(outcome.isError).toBe(true);
      expect(textOf(outcome)).toMatch(sentence);
      expect(textOf(outcome).length).toBeLessThan(1_000);
      expect(await held).toBeLessThan(MOST_MEGABYTES);
      await works(working);
      // What has died behind an address is not ours to start again.
      if (name === "die" && wire !== "stdio") return;
      expect(textOf(await run(hostile, "echo"))).toBe("still here");
    },
  );
});

describe("a tool of the catalogue", () => {
  test("reads no file of the machine, and none of another tenant", async () => {
    const mine = await given(catalogueUse);
    const { orgId } = await givenOrg();
    const theirs = await open(mine.tools, { orgId }, { hostile: catalogueUse });
    await run(theirs, "write", { path: "/scratch/secret", text: "canary-8812" });
    const outside = join(hostileMcp.folder, "outside");
    await writeFile(outside, "canary-8813");
    for (const path of ["/etc/passwd", "/scratch/secret", outside, join(homedir(), ".bashrc")]) {
      expect(textOf(await run(mine.hostile, "read", { path })), path).toBe("ENOENT");
    }
    expect(textOf(await run(mine.hostile, "processes", { path: "/scratch/secret" }))).not.toContain("canary");
    expect(textOf(await run(theirs, "read", { path: "/scratch/secret" }))).toBe("canary-8812");
    await works(mine.working);
  });

  test("reaches neither PostgreSQL on loopback nor the cloud's metadata address", async () => {
    const { hostile, working } = await given(catalogueUse);
    const postgres = { host: "127.0.0.1", port: Number(databaseUrl().port) };
    expect(textOf(await run(hostile, "connect", postgres))).toBe("ECONNREFUSED");
    expect(textOf(await run(hostile, "connect", { host: "169.254.169.254", port: 80 }))).toBe("ENETUNREACH");
    await works(working);
  });

  test("that is a fork bomb ends at its limits with the reason, while others work, and can be called again", async () => {
    const { hostile, working } = await given(catalogueUse);
    const over = { yes: false };
    const bomb = run(hostile, "bomb").finally(() => {
      over.yes = true;
    });
    let served = 0;
    while (!over.yes) {
      await works(working);
      served += 1;
    }
    expect(textOf(await bomb)).toContain("more than 3 s of processor time");
    expect(served).toBeGreaterThan(1);
    expect(textOf(await run(hostile, "echo"))).toBe("still here");
  });

  test("that fills the disk fills its own folder, which has an end, and can be called again", async () => {
    const { hostile, working } = await given(catalogueUse);
    expect(textOf(await run(hostile, "fill"))).toBe("EFBIG,ENOSPC,ENOSPC");
    expect(textOf(await run(hostile, "echo"))).toBe("still here");
    await works(working);
  });
});
