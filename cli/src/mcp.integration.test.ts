import { randomBytes } from "node:crypto";
import {
  protectedBy,
  startMcpServer,
  startOauthServer,
  testDatabase,
  type McpTestServer,
  type TestDatabase,
  type Ended,
  type ProgramOptions,
} from "@shaman/testkit";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { z } from "zod";
import { runCli } from "./run-cli.scene.ts";

const secretKeys = `test:${randomBytes(32).toString("base64url")}`;

let database: TestDatabase;
beforeAll(async () => {
  database = await testDatabase();
});
const cleanUp: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const undo of cleanUp.splice(0).toReversed()) await undo();
});
afterAll(() => database.close());

const shaman = (args: readonly string[], options: Pick<ProgramOptions, "input" | "onErr"> = {}): Promise<Ended> =>
  runCli(args, {
    ...options,
    env: {
      DATABASE_URL: database.roleUrls.web.reveal(),
      SHAMAN_SECRET_KEYS: secretKeys,
      NODE_ENV: "development",
    },
  });

const lookup = { name: "lookup", description: "Looks an order up", annotations: { readOnlyHint: true } };

const given = async (): Promise<{ server: McpTestServer; org: string }> => {
  const server = await startMcpServer({ tools: [lookup] });
  cleanUp.push(server.close);
  const { slug } = await database.givenOrg();
  return { server, org: slug };
};

const sources = z.object({ sources: z.array(z.looseObject({ label: z.string(), waiting: z.number() })) });
const waitingOf = z.object({ waiting: z.array(z.object({ name: z.string(), hash: z.string() })) });

test("a server is added with a header from standard input, tested, listed, approved anew and removed", async () => {
  const { server, org } = await given();
  const add = ["mcp", "add", "orders", server.url, "--header", "X-Api-Key", "--org", org];
  const added = await shaman(add, { input: "canary-key\n" });
  expect(added).toMatchObject({ code: 0, err: "" });
  expect(added.out).toContain("lookup");
  expect(added.out).not.toContain("canary-key");
  expect(server.requests.some(({ headers }) => headers["x-api-key"] === "canary-key")).toBe(true);

  await server.setTools([{ ...lookup, description: "Does something else" }, { name: "extra" }]);
  const tested = await shaman(["mcp", "test", "orders", "--org", org]);
  expect(tested.code).toBe(0);
  expect(tested.out).toContain("has changed since it was approved");
  const listed = await shaman(["mcp", "list", "--json", "--org", org]);
  expect(sources.parse(JSON.parse(listed.out)).sources).toMatchObject([{ label: "orders", waiting: 2 }]);

  const shown = await shaman(["mcp", "approve", "orders", "--org", org]);
  expect(shown.out).toContain("Does something else");
  const { waiting } = waitingOf.parse(
    JSON.parse((await shaman(["mcp", "approve", "orders", "--json", "--org", org])).out),
  );
  const wrong = await shaman(["mcp", "approve", "orders", "lookup@0000000000000", "--org", org]);
  expect(wrong.code).toBe(1);
  const hash = waiting.find(({ name }) => name === "lookup")?.hash.slice(0, 12) ?? "";
  expect((await shaman(["mcp", "approve", "orders", `lookup@${hash}`, "--org", org])).out).toContain("Approved lookup");
  expect((await shaman(["mcp", "approve", "orders", "--all", "--org", org])).out).toContain("Approved extra");
  expect((await shaman(["mcp", "test", "orders", "--org", org])).out).not.toContain("approved");

  expect((await shaman(["mcp", "remove", "orders", "--org", org])).code).toBe(0);
  expect((await shaman(["mcp", "test", "orders", "--org", org])).code).toBe(1);
});

test("a server that cannot be reached is registered all the same, and its test exits 1", async () => {
  const { server, org } = await given();
  await server.close();
  cleanUp.length = 0;
  const added = await shaman(["mcp", "add", "orders", server.url, "--org", org]);
  expect(added.code).toBe(0);
  expect(added.out).toContain("cannot be used now");
  expect((await shaman(["mcp", "test", "orders", "--org", org])).code).toBe(1);
});

/** Goes where the command line says, as a browser would, and comes back with the code. */
const browser = () => {
  let visited: Promise<unknown> | undefined;
  const visit = async (address: string): Promise<void> => {
    const answer = await fetch(address, { redirect: "manual" });
    const back = new URL(answer.headers.get("location") ?? "");
    const forged = new URL(back);
    forged.searchParams.set("state", "guessed");
    expect((await fetch(forged)).status).toBe(404);
    expect((await fetch(back)).status).toBe(200);
  };
  const onErr = (err: string): void => {
    const [address] = /http:\/\/\S+\/authorize\S+(?=\s)/.exec(err) ?? [];
    if (address !== undefined) visited ??= visit(address);
  };
  return { onErr, visited: async () => visited };
};

test("a person authorizes in a browser, and what then comes back unasked is not taken", async () => {
  const oauth = await startOauthServer();
  const server = await startMcpServer({ tools: [lookup], intercept: protectedBy(oauth) });
  cleanUp.push(oauth.close, server.close);
  const { slug } = await database.givenOrg();
  const { onErr, visited } = browser();
  const added = await shaman(["mcp", "add", "tickets", server.url, "--oauth", "--org", slug], { onErr });
  await visited();
  expect(added.code).toBe(0);
  expect(added.out).toContain("lookup");

  oauth.expireTokens();
  oauth.revoke();
  await server.setTools([lookup, { name: "extra" }]);
  const advice = "run ./shaman mcp authorize tickets";
  const tested = await shaman(["mcp", "test", "tickets", "--org", slug]);
  expect(tested).toMatchObject({ code: 1, out: expect.stringContaining(advice) });
  expect((await shaman(["mcp", "list", "--org", slug])).out).toContain(advice);

  const again = browser();
  const authorized = await shaman(["mcp", "authorize", "tickets", "--org", slug], { onErr: again.onErr });
  await again.visited();
  expect(authorized.code).toBe(0);
  expect(authorized.out).toContain("lookup");
  // What was approved stays so, and what was not is not approved by the way.
  expect(authorized.out).toContain("The tool extra of the MCP server tickets is new");
  expect((await shaman(["mcp", "list", "--org", slug])).out).not.toContain(advice);
  expect((await shaman(["mcp", "authorize", "nothing", "--org", slug])).code).toBe(1);
});
