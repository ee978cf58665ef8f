import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  startModelServer,
  startShaman,
  type ModelReply,
  type ModelServer,
  type Shaman,
  type TestOrg,
  type ProgramOptions,
} from "@shaman/testkit";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { runCli } from "./run-cli.scene.ts";

/** Models as agents use them, from the command that sets them up to the run that they answered: real servers throughout. */

const secretKeys = `test:${randomBytes(32).toString("base64url")}`;
const servers: ModelServer[] = [];
let shaman: Shaman;
let folder: string;

beforeAll(async () => {
  shaman = await startShaman({ env: { GIT_FILE_ROOT: tmpdir() } });
  folder = await mkdtemp(join(tmpdir(), "shaman-recordings-"));
});
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});
afterAll(async () => {
  await shaman.close();
  await rm(folder, { recursive: true, force: true });
});

const runFor = (org: TestOrg, args: readonly string[], options: Pick<ProgramOptions, "input" | "env"> = {}) =>
  runCli(args, {
    ...options,
    env: {
      DATABASE_URL: shaman.database.roleUrls.web.reveal(),
      SHAMAN_SECRET_KEYS: secretKeys,
      SHAMAN_ORG: org.slug,
      NODE_ENV: "development",
      ...options.env,
    },
  });

const cli = (org: TestOrg, ...args: readonly string[]) => runFor(org, args);

const done = async (org: TestOrg, ...args: readonly string[]): Promise<string> => {
  const result = await cli(org, ...args);
  expect(result).toMatchObject({ code: 0, err: "" });
  return result.out;
};

/** A provider of the organization that gives these answers in turn. */
const givenProvider = async (org: TestOrg, provider: string, replies: readonly ModelReply[]): Promise<ModelServer> => {
  const server = await startModelServer({ wire: "openai", replies });
  servers.push(server);
  await done(org, "model", "set-key", provider, "--base-url", server.baseUrl, "--no-key");
  return server;
};

const answeredTask = z.object({
  task: z.object({
    id: z.string(),
    status: z.object({ state: z.string() }),
    artifacts: z
      .array(z.object({ name: z.string(), parts: z.array(z.looseObject({ text: z.string().optional() })) }))
      .default([]),
  }),
});

const call = async (org: TestOrg, agent: string, text: string) => {
  const message = { messageId: randomBytes(8).toString("hex"), role: "ROLE_USER", parts: [{ text }] };
  const answer = await shaman.rpc(org, { agent, method: "SendMessage", params: { message } });
  expect(answer.status, answer.text).toBe(200);
  return answeredTask.parse(answer.json.result).task;
};

const shownRun = z.object({
  state: z.string(),
  error: z.object({ code: z.string(), message: z.string() }).nullable(),
  stepList: z.array(
    z.object({
      kind: z.string(),
      model: z.string().nullable(),
      costUsd: z.number().nullable(),
      inputTokens: z.number().nullable(),
      notes: z.record(z.string(), z.unknown()).nullable(),
    }),
  ),
});
const show = async (org: TestOrg, taskId: string) =>
  shownRun.parse(JSON.parse(await done(org, "run", "show", taskId, "--json")));

describe("a list of models under one name", () => {
  test("lets the second answer where the first is away, and the run says so", async () => {
    const agent = "---\ndescription: Helps\nexposed: true\nmodel: backed-up\n---\nYou help.\n";
    const org = await shaman.givenOrg({ "Helper.md": agent });
    await givenProvider(org, "away", [{ status: 500 }]);
    const usage = { inputTokens: 5, outputTokens: 1 };
    await givenProvider(org, "here", [{ text: ["Here I am"], usage, model: "b-2" }]);
    await done(org, "model", "set-alias", "backed-up", "away/a", "here/b");
    expect(await done(org, "model", "list")).toMatch(/backed-up +away\/a, then here\/b\n/);

    const task = await call(org, "Helper", "hello");
    expect(task).toMatchObject({
      status: { state: "TASK_STATE_COMPLETED" },
      artifacts: [{ parts: [{ text: "Here I am" }] }],
    });
    const { stepList } = await show(org, task.id);
    expect(stepList).toMatchObject([
      { model: "here/b-2", inputTokens: 5, notes: { tried: [{ model: "away/a", code: "model_unavailable" }] } },
    ]);
    expect(await done(org, "run", "show", task.id)).toContain("step 1: away/a did not answer");
    await done(org, "model", "remove-alias", "backed-up");
    expect((await cli(org, "model", "remove-alias", "backed-up")).err).toContain('no model alias "backed-up"');
  });

  test("of which none answers costs what each of them counted, and the run says so", async () => {
    const agent = "---\ndescription: Helps\nexposed: true\nmodel: pair\nretry: {maxAttempts: 1}\n---\nYou help.\n";
    const org = await shaman.givenOrg({ "Helper.md": agent });
    const broken = { pieces: 0, ending: "cut", counted: true } as const;
    await givenProvider(org, "one", [{ ...broken, usage: { inputTokens: 50, outputTokens: 4 } }]);
    await givenProvider(org, "two", [{ ...broken, usage: { inputTokens: 30, outputTokens: 2 } }]);
    await done(org, "model", "set-alias", "pair", "one/a", "two/b");
    const task = await call(org, "Helper", "hello");
    expect(task.status.state).toBe("TASK_STATE_FAILED");
    const shown = z
      .looseObject({ failedCalls: z.array(z.unknown()), tasks: z.array(z.unknown()) })
      .parse(JSON.parse(await done(org, "run", "show", task.id, "--json")));
    expect(shown).toMatchObject({
      inputTokens: 80,
      outputTokens: 6,
      stepList: [],
      failedCalls: [
        { position: 1, model: expect.stringMatching(/^one\//), inputTokens: 50, outputTokens: 4, costUsd: null },
        { position: 1, model: expect.stringMatching(/^two\//), inputTokens: 30, outputTokens: 2, costUsd: null },
      ],
      tasks: [{ agent: "Helper", modelCalls: 0, failedCalls: 2, inputTokens: 80 }],
    });
    const text = await done(org, "run", "show", task.id);
    expect(text).toMatch(/step 1 of Helper: one\/\S+ gave no answer, for 54 tokens \(at an unknown price\)/);
  });

  test("can be another one by the time that a waiting run goes on, which keeps its commit and its steps", async () => {
    const agent = (prompt: string) =>
      `---\ndescription: Helps\nexposed: true\nmodel: fast\ntools: [request_input]\n---\n${prompt}\n`;
    const org = await shaman.givenOrg({ "Helper.md": agent("You help.") });
    const ask = { id: "call_1", name: "request_input", input: { question: "Which size?" } };
    const one = await givenProvider(org, "one", [{ toolCalls: [ask] }]);
    const two = await givenProvider(org, "two", [{ text: ["XL it is"] }]);
    await done(org, "model", "set-alias", "fast", "one/a");
    const asked = await call(org, "Helper", "hello");
    expect(asked.status.state).toBe("TASK_STATE_INPUT_REQUIRED");

    await done(org, "model", "set-alias", "fast", "two/b");
    await org.push({ "Helper.md": agent("You help differently.") });
    // A server that has just been started knows of no earlier meaning.
    await shaman.processes.internal.kill("SIGTERM");
    await shaman.processes.internal.start();
    await done(org, "run", "answer", asked.id, "XL");
    await expect.poll(async () => (await show(org, asked.id)).state, { timeout: 20_000 }).toBe("completed");
    expect(one.requests).toHaveLength(1);
    expect(JSON.stringify(two.requests[0]?.body)).toContain("You help.");
    expect(
      (await show(org, asked.id)).stepList.map(({ kind, model }) => `${kind} ${model?.split("/")[0] ?? ""}`),
    ).toEqual(["model one", "input ", "model two"]);
  });
});

describe("an agent that promises its output", () => {
  const agent = (model: string) => `---
description: Adds up an order
exposed: true
model: ${model}
tools: [write_artifact]
output: {type: object, required: [total], properties: {total: {type: number}}}
---
You add up orders: {{prompt}}
`;
  const note = { id: "call_7f", name: "write_artifact", input: { name: "note.txt", content: "{{prompt}} is kept" } };

  test("gives it as data after one round of mending, and a recording of it plays the same without a provider", async () => {
    const org = await shaman.givenOrg({ "Adder.md": agent("desk/m") });
    const desk = await givenProvider(org, "desk", [
      { text: ["Writing. "], toolCalls: [note], usage: { inputTokens: 50, outputTokens: 9 } },
      { text: ["three"] },
      { text: ['{"total"', ": 3}"] },
    ]);
    const task = await call(org, "Adder", "one and two");
    const expected = [
      { name: "response", parts: [{ text: "Writing. " }] },
      { name: "note.txt", parts: [expect.objectContaining({ text: "{{prompt}} is kept" })] },
      { name: "response", parts: [{ text: '{"total": 3}' }] },
      { name: "output", parts: [expect.objectContaining({ data: { total: 3 } })] },
    ];
    expect(task).toMatchObject({
      status: { state: "TASK_STATE_COMPLETED" },
      artifacts: expect.arrayContaining(expected),
    });
    expect(task.artifacts).toHaveLength(4);
    expect(JSON.stringify(task)).not.toContain("three");
    expect(desk.requests).toHaveLength(3);

    const file = join(folder, "Adder.recorded.yaml");
    expect(await done(org, "model", "record", task.id, "--out", file)).toContain("Wrote 3 answers");
    expect((await cli(org, "model", "record", task.id, "--out", file)).err).toContain("is there already");

    const script = await readFile(file, "utf8");
    const replaying = await shaman.givenOrg({
      "Adder.md": agent("scripted/Adder.recorded.yaml"),
      "Adder.recorded.yaml": script,
    });
    const replayed = await call(replaying, "Adder", "one and two");
    expect(replayed).toMatchObject({
      status: { state: "TASK_STATE_COMPLETED" },
      artifacts: expect.arrayContaining(expected),
    });
    expect(replayed.artifacts).toHaveLength(4);
    expect(await show(replaying, replayed.id)).toMatchObject({
      stepList: [{ inputTokens: 50, costUsd: 0 }, {}, {}, {}],
    });

    const other = await call(replaying, "Adder", "one and three");
    expect(other.status.state).toBe("TASK_STATE_FAILED");
    const { error } = await show(replaying, other.id);
    expect(error).toMatchObject({ code: "model_script_no_match", message: expect.stringContaining("Record it anew") });
    expect((await cli(replaying, "model", "record", replayed.id)).err).toContain("only answers of a provider's model");
  });

  test("fails with output_invalid when mending did not help", async () => {
    const org = await shaman.givenOrg({ "Adder.md": agent("desk/m") });
    await givenProvider(org, "desk", [{ text: ["three"] }, { text: ["{}"] }]);
    const task = await call(org, "Adder", "one and two");
    expect(task.status.state).toBe("TASK_STATE_FAILED");
    expect((await show(org, task.id)).error).toMatchObject({ code: "output_invalid" });
  });
});

describe("an agent that lets answers be used again", () => {
  test("asks its model once for the same question, until the cache is cleared", async () => {
    const agent = "---\ndescription: Helps\nexposed: true\nmodel: desk/m\ncache: 1h\n---\nYou help.\n";
    const org = await shaman.givenOrg({ "Helper.md": agent });
    const desk = await givenProvider(org, "desk", [{ text: ["first"] }, { text: ["second"] }, { text: ["third"] }]);
    const textOf = async (prompt: string) => {
      const task = await call(org, "Helper", prompt);
      return { text: task.artifacts[0]?.parts[0]?.text, step: (await show(org, task.id)).stepList[0] };
    };
    expect(await textOf("hello")).toMatchObject({ text: "first", step: { costUsd: null } });
    expect(await textOf("hello")).toMatchObject({ text: "first", step: { costUsd: 0, notes: { cached: true } } });
    expect(await textOf("other")).toMatchObject({ text: "second" });
    expect(desk.requests).toHaveLength(2);
    expect(await done(org, "model", "clear-cache")).toBe("Forgot 2 answers.\n");
    expect(await textOf("hello")).toMatchObject({ text: "third" });
  });

  test("or that of a whole organization, but where the agent's file says otherwise", async () => {
    const agent = (more: string) => `---\ndescription: Helps\nexposed: true\nmodel: desk/m\n${more}---\nYou help.\n`;
    const org = await shaman.givenOrg({ "Helper.md": agent(""), "Fresh.md": agent("cache: false\n") });
    const desk = await givenProvider(org, "desk", [{ text: ["1"] }, { text: ["2"] }, { text: ["3"] }]);
    expect((await cli(org, "model", "set-cache", "31d")).err).toContain("2592000");
    await done(org, "model", "set-cache", "1h");
    for (const name of ["Helper", "Helper", "Fresh", "Fresh"]) await call(org, name, "hello");
    expect(desk.requests).toHaveLength(3);
  });
});

describe("models", () => {
  let org: TestOrg;
  beforeAll(async () => {
    org = await shaman.givenOrg({});
  });
  const run = (args: readonly string[], options?: Parameters<typeof runFor>[2]) => runFor(org, args, options);

  test("of a provider are registered with a key from standard input, listed without it, and tried", async () => {
    const server = await startModelServer({
      wire: "openai",
      replies: [{ text: ["ready"], usage: { inputTokens: 7, outputTokens: 1 } }],
    });
    const key = "sk-a-key-from-standard-input";
    const set = ["model", "set-key", "own", "--base-url", server.baseUrl];
    expect(await run(set, { input: `${key}\n` })).toMatchObject({ code: 0, err: "" });
    const listed = await run(["model", "list", "--json"]);
    expect(JSON.parse(listed.out)).toMatchObject({
      providers: [{ provider: "own", kind: "openai-compatible", hasKey: true }],
    });
    expect(listed.out).not.toContain(key);

    const tried = await run(["model", "test", "own/some-model", "--json"]);
    expect(JSON.parse(tried.out)).toMatchObject({ text: "ready", inputTokens: 7, outputTokens: 1, costUsd: null });
    expect(server.requests[0]?.headers.authorization).toBe(`Bearer ${key}`);
    await server.close();
  });

  test("take their key from a variable too, never without one, and say what is unknown", async () => {
    const set = await run(["model", "set-key", "openai", "--from-env", "MY_KEY"], { env: { MY_KEY: "sk-from-env" } });
    expect(set).toMatchObject({ code: 0, err: "" });
    expect(set.out).not.toContain("sk-from-env");
    expect(await run(["model", "set-key", "anthropic"])).toMatchObject({ code: 1, out: "" });
    const unknown = await run(["model", "test", "nobody/x"]);
    expect(unknown).toMatchObject({ code: 1, out: "" });
    expect(unknown.err).toContain('no model provider "nobody"');
    expect(unknown.err).toContain(`./shaman model set-key nobody --base-url https://…/v1 --org ${org.slug}\n`);
  });

  test("without the key that their provider wants name the command that sets it", async () => {
    const missing = await run(["model", "test", "anthropic/claude-haiku-4-5"]);
    expect(missing).toMatchObject({ code: 1, out: "" });
    expect(missing.err).toMatch(/: \.\/shaman model set-key anthropic --org \S+\n$/);
    const server = await startModelServer({ wire: "openai", replies: [{ status: 401 }] });
    await run(["model", "set-key", "keyless", "--base-url", server.baseUrl, "--no-key"]);
    const refused = await run(["model", "test", "keyless/x"]);
    expect(refused).toMatchObject({ code: 1, out: "" });
    expect(refused.err).toMatch(/HTTP 401.* Set the key: \.\/shaman model set-key keyless --base-url \S+ --org \S+\n$/);
    await server.close();
  });
});
