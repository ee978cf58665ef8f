import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  givenGitRemote,
  startShaman,
  type Shaman,
  type TestOrg,
  type Ended,
  type ProgramOptions,
} from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { runCli } from "./run-cli.scene.ts";

/** The commands that need running servers, against running servers. */

const secretKeys = `test:${randomBytes(32).toString("base64url")}`;

const AGENTS = {
  "Greeter.md":
    "---\ndescription: Greets whoever writes\nexposed: true\nmodel: scripted/greeter.yaml\n---\nYou greet people.\n",
  "greeter.yaml": "turns:\n  - text: ['Hello, ', '{{prompt}}', '!']\n",
  "Sleeper.md": "---\ndescription: Takes its time\nexposed: true\nmodel: scripted/sleeper.yaml\n---\nYou sleep.\n",
  "Broken.md": "---\ndescription: Fails\nexposed: true\nmodel: scripted/broken.yaml\n---\nYou fail.\n",
  "broken.yaml": "turns:\n  - error: {status: 400}\n",
  "Cashier.md":
    "---\ndescription: Charges cards\nexposed: true\nmodel: scripted/cashier.yaml\ntools: [write_artifact]\napproval: [write_artifact]\nmcpServers: {mail: '*'}\n---\nYou charge.\n",
  "cashier.yaml": JSON.stringify({
    turns: [
      {
        match: { turn: 1 },
        toolCalls: [{ name: "write_artifact", input: { name: "receipt.txt", content: "100 EUR" } }],
      },
      { match: { toolResult: "too dear" }, text: "Not charged." },
      { text: "Charged." },
    ],
  }),
  "Desk.md": "---\ndescription: Asks others\nexposed: true\nmodel: scripted/desk.yaml\n---\nYou ask.\n",
  "desk.yaml": JSON.stringify({
    turns: [
      { match: { turn: 1 }, toolCalls: [{ name: "call_agent", input: { agent: "Asker", message: "ask" } }] },
      { text: "Thanks." },
    ],
  }),
  "Asker.md": "---\ndescription: Has a question\nmodel: scripted/asker.yaml\ntools: [request_input]\n---\nYou ask.\n",
  "asker.yaml": JSON.stringify({
    turns: [
      { match: { turn: 1 }, toolCalls: [{ name: "request_input", input: { question: "Which size?" } }] },
      { match: { toolResult: "XL" }, text: "Size XL." },
    ],
  }),
  "sleeper.yaml": "turns:\n  - text: ['One moment', {text: ' and done', delayMs: 60000}]\n",
};

let shaman: Shaman;
let org: TestOrg;
beforeAll(async () => {
  shaman = await startShaman({ env: { GIT_FILE_ROOT: tmpdir() } });
  org = await shaman.givenOrg(AGENTS);
});
afterAll(() => shaman.close());

const run = (args: readonly string[], options: Pick<ProgramOptions, "input" | "env"> = {}): Promise<Ended> =>
  runCli(args, {
    ...options,
    env: {
      DATABASE_URL: shaman.database.roleUrls.web.reveal(),
      SHAMAN_SECRET_KEYS: secretKeys,
      SHAMAN_ORG: org.slug,
      GIT_FILE_ROOT: tmpdir(),
      NODE_ENV: "development",
      ...options.env,
    },
  });

const json = async (args: readonly string[], options?: Parameters<typeof run>[1]): Promise<Record<string, unknown>> => {
  const result = await run([...args, "--json"], options);
  expect(result.err).toBe("");
  return z.record(z.string(), z.unknown()).parse(JSON.parse(result.out));
};

const call = async (agent: string, text: string, returnImmediately = false) => {
  const message = { messageId: randomBytes(8).toString("hex"), role: "ROLE_USER", parts: [{ text }] };
  const params = { message, configuration: { returnImmediately } };
  const answer = await shaman.rpc(org, { agent, method: "SendMessage", params });
  expect(answer.status, answer.text).toBe(200);
  return z.object({ task: z.object({ id: z.string() }) }).parse(answer.json.result).task.id;
};

describe("repositories and agents", () => {
  test("are added with their first sync, listed and shown; a bad commit is refused and the good one goes on serving", async () => {
    const remote = await givenGitRemote();
    await remote.commit({ "Helper.md": "---\ndescription: Helps\nmodel: openai/gpt-5\n---\nYou help. {{prompt}}\n" });
    const added = await run(["repo", "add", remote.url, "--name", "more", "--every", "1h"]);
    expect(added).toMatchObject({ code: 0, err: "" });
    expect(added.out).toMatch(/^more is live at [0-9a-f]{12} with 1 agent\./);

    const agents = await json(["agent", "list"]);
    expect(agents["agents"]).toContainEqual(
      expect.objectContaining({ name: "Helper", repository: "more", exposed: false, model: "openai/gpt-5" }),
    );
    const shown = await run(["agent", "show", "more:Helper"]);
    expect(shown.out).toMatch(/name +Helper\n/);
    expect(shown.out).toContain("You help. {{prompt}}");
    const unknown = await run(["agent", "show", "Helpr"]);
    expect(unknown).toMatchObject({ code: 1, out: "" });
    expect(unknown.err).toContain("Helper");

    await remote.commit({ "Helper.md": "---\ndescription: Helps\ncalls: [Nobody]\n---\nYou help.\n" });
    const warned = await run(["repo", "sync", "more"]);
    expect(warned).toMatchObject({ code: 0, err: "" });
    expect(warned.out).toMatch(/^more is live at .*\n {2}Helper\.md:3 warning: calls: there is no agent Nobody /);

    await remote.commit({ "Helper.md": "---\ndescription: Helps\nexposed: maybe\n---\nYou help.\n" });
    const refused = await run(["repo", "sync", "more"]);
    expect(refused.code).toBe(1);
    expect(refused.out).toMatch(/Helper\.md:3 .*\n.*goes on serving/s);
    const list = await json(["repo", "list"]);
    expect(list["repositories"]).toContainEqual(
      expect.objectContaining({ name: "more", state: "failed", problemCount: 1, agents: 1 }),
    );
    await remote.close();
  });

  test("are refused at an address that is none, or without the variable that was named", async () => {
    const refused = await run(["repo", "add", "ssh://git@example.com/x.git", "--name", "x"]);
    expect(refused).toMatchObject({ code: 1, out: "" });
    const args = [
      "repo",
      "add",
      "https://example.com/x.git",
      "--name",
      "x",
      "--credential-from-env",
      "NO_SUCH_VARIABLE",
    ];
    expect((await run(args)).err).toContain("NO_SUCH_VARIABLE is empty");
  });
});

describe("runs", () => {
  test("are listed, shown and tailed from their beginning to their end", async () => {
    const taskId = await call("Greeter", "Ada");
    const list = z.object({ runs: z.array(z.object({ id: z.string(), taskId: z.string(), state: z.string() })) });
    const { runs } = list.parse(await json(["run", "list", "--agent", "Greeter"]));
    const found = runs.find((each) => each.taskId === taskId);
    expect(found?.state).toBe("completed");
    const runId = found?.id ?? "";

    const table = (await run(["run", "list", "--agent", "Greeter"])).out;
    const { apiKeyName } = z.looseObject({ apiKeyName: z.string() }).parse(await json(["run", "show", runId]));
    expect(table).toMatch(/^ID +AGENT +STATE +BY /);
    expect(table).toMatch(new RegExp(`${runId} +Greeter +completed +${apiKeyName} `));

    const shown = await run(["run", "show", runId]);
    expect(shown.out).toMatch(/state +completed/);
    expect(shown.out).toContain("caller: Ada");
    expect(shown.out).toContain("Hello, Ada!");
    const detail = await json(["run", "show", taskId]);
    expect(detail).toMatchObject({ id: runId, stepList: [{ kind: "model", state: "done" }] });

    const tailed = await run(["run", "tail", runId]);
    expect(tailed).toMatchObject({ code: 0, err: "" });
    expect(tailed.out).toContain("Hello, Ada!");
    expect(tailed.out).toMatch(/→ completed\n$/);
    const lines = (await run(["run", "tail", runId, "--json"])).out.trim().split("\n");
    const seqs = lines.map((line) => z.object({ seq: z.int() }).parse(JSON.parse(line)).seq);
    expect(seqs).toEqual(seqs.map((_, at) => at + 1));

    const newest = await run(["run", "tail"]);
    expect(newest.code).toBe(0);
    const unknown = await run(["run", "show", "run_unknown"]);
    expect(unknown).toMatchObject({ code: 1, out: "" });
  });

  test("are cancelled while they are at work, and whoever tails one sees its end with exit code 1", async () => {
    const taskId = await call("Sleeper", "now", true);
    const tail = run(["run", "tail", taskId]);
    const cancelled = await run(["run", "cancel", taskId]);
    expect(cancelled).toMatchObject({ code: 0, err: "" });
    expect(cancelled.out).toMatch(/^The run run_\w+ is canceled\.\n$/);
    const tailed = await tail;
    expect(tailed.code).toBe(1);
    expect(tailed.out).toMatch(/→ canceled.*\n$/);
    const again = await run(["run", "cancel", taskId]);
    expect(again).toMatchObject({ code: 1, out: "" });
    expect(again.err).toContain("already");
    const retried = await run(["run", "retry", taskId]);
    expect(retried.err).toContain("only a failed or waiting run");
  });

  test("that failed are done again as a new run of the same message", async () => {
    const taskId = await call("Broken", "try me");
    const failed = await json(["run", "show", taskId]);
    expect(failed).toMatchObject({ state: "failed", error: { code: expect.any(String), message: expect.any(String) } });
    const retried = z
      .object({ id: z.string(), retriedAs: z.object({ runId: z.string() }) })
      .parse(await json(["run", "retry", taskId]));
    expect(retried.id).toBe(failed["id"]);
    const tailed = await run(["run", "tail", retried.retriedAs.runId]);
    expect(tailed.code).toBe(1);
    const again = await json(["run", "show", retried.retriedAs.runId]);
    expect(again).toMatchObject({ state: "failed", messages: [{ parts: [{ text: "try me" }] }] });
    expect(await json(["run", "show", taskId])).toMatchObject({ state: "failed" });
  });
});

describe("a run that waits", () => {
  const ended = async (id: string) => {
    const tailed = await run(["run", "tail", id]);
    expect(tailed.code, tailed.out).toBe(0);
    return run(["run", "show", id]);
  };

  test("for an approval shows the call, and goes on once it is approved or refused by the approval's id", async () => {
    for (const [verb, args, text, told] of [
      ["approve", [], "Charged.", /step \d: write_artifact was approved by \S+\n/],
      [
        "refuse",
        ["--reason", "too dear"],
        "Not charged.",
        /was refused by \S+: too dear\n[^]*write_artifact failed: A person refused/,
      ],
    ] as const) {
      const taskId = await call("Cashier", verb);
      const shown = await run(["run", "show", taskId]);
      expect(shown.out).toMatch(/waits for +approval approval_\w+ of write_artifact .*100 EUR.* by Cashier/);
      const waiting = z.object({ approvalId: z.string() }).parse((await json(["run", "show", taskId]))["waiting"]);
      const answered = await run(["run", "answer", taskId, "yes"]);
      expect(answered).toMatchObject({ code: 1, out: "" });
      const { id } = z.object({ id: z.string() }).parse(await json(["run", "show", taskId]));
      expect(answered.err).toMatch(
        new RegExp(
          `does not wait for an answer now. Decide .*: ./shaman run approve ${id} --org ${org.slug}, or .* refuse`,
        ),
      );
      const decided = await run(["run", verb, waiting.approvalId, ...args]);
      expect(decided).toMatchObject({ code: 0, err: "" });
      expect(decided.out).toContain("100 EUR");
      const { out } = await ended(taskId);
      expect(out).toContain(text);
      expect(out).toMatch(told);
      expect((await run(["run", "graph", taskId])).out).toContain(
        verb === "approve" ? '|"2 approved"|' : '|"2 refused"|',
      );
      expect((await run(["run", verb, taskId])).err).toMatch(/does not wait for a decision now\.\n$/);
    }
  });

  test("has each problem of its agent's tools once, in its tail and afterwards, however many attempts met it", async () => {
    const taskId = await call("Cashier", "approve");
    expect(await run(["run", "approve", taskId])).toMatchObject({ code: 0, err: "" });
    const { out } = await ended(taskId);
    expect(out.match(/problem of Cashier: The MCP server mail is not available/g)).toHaveLength(1);
    const told = (await run(["run", "tail", taskId, "--json"])).out.match(/"kind":"problem"/g) ?? [];
    expect(told.length).toBeGreaterThan(1);
    const tailed = await run(["run", "tail", taskId]);
    expect(tailed.out.match(/→ problem {2}The MCP server mail is not available/g)).toHaveLength(1);
    const shown = await json(["run", "show", taskId]);
    expect(shown["problems"]).toMatchObject([{ position: null, message: expect.stringContaining("mail") }]);
  });

  test("with a called agent's question takes an answer, and shows its tree, usage and graph", async () => {
    const taskId = await call("Desk", "go");
    expect((await run(["run", "show", taskId])).out).toMatch(/waits for +an answer to Asker/);
    for (const verb of ["approve", "refuse"]) {
      const decided = await run(["run", verb, taskId]);
      expect(decided).toMatchObject({ code: 1, out: "" });
      expect(decided.err).toMatch(
        /does not wait for a decision now\. Answer its question: \.\/shaman run answer run_\w+ /,
      );
    }
    expect(await run(["run", "answer", taskId, "XL, please"])).toMatchObject({ code: 0, err: "" });
    const shown = await ended(taskId);
    expect(shown.out).toMatch(/2 +Desk +call +Asker +done/);
    expect(shown.out).toMatch(/2\.2 +Asker +input +request_input +done/);
    expect(shown.out).toMatch(/AGENT +TASK +STATE.*\nDesk +task_\w+ +completed +2 .*\nAsker +task_\w+ +completed +2 /);
    expect(shown.out).toContain("caller: XL, please");
    const graph = await run(["run", "graph", taskId]);
    expect(graph.out).toMatch(/^flowchart TD\n  task1\["Desk: completed, 2 model calls"\]\n/);
    expect(graph.out).toContain('task1 -->|"2 done"| task2');
  });
});

describe("doctor", () => {
  test("finds an installation at work in order", async () => {
    const result = await run(["doctor"]);
    expect(result.out).not.toContain("FAILED");
    expect(result.code).toBe(0);
  });

  test("finds a store for artifacts that cannot be used, and makes none by looking", async () => {
    const folder = join(tmpdir(), `shaman-none-${randomBytes(6).toString("hex")}`);
    const fresh = await run(["doctor"], { env: { ARTIFACT_DIR: folder } });
    expect(fresh.out).toContain(`large artifacts can be kept in ${folder}`);
    expect(existsSync(folder)).toBe(false);
    const broken = await run(["doctor"], { env: { ARTIFACT_DIR: join(import.meta.filename, "artifacts") } });
    expect(broken.code).toBe(1);
    expect(broken.out).toMatch(/FAILED +Storage +The folder ARTIFACT_DIR cannot be used/);
  });
});

describe("outside agents", () => {
  test("are added by their card and key, tried, called, listed with their figures, and removed", async () => {
    const partner = await shaman.givenOrg(AGENTS);
    const address = `http://${partner.host}/a2a/v1/agents/Greeter`;
    const input = `${partner.apiKey}\n`;
    const added = await run(["external", "add", "Partner", address, "--bearer"], { input });
    expect(added).toMatchObject({ code: 0 });
    expect(added.out).toContain(`JSONRPC 1.0 at ${address}, with a credential for http://${partner.host}.`);
    expect(added.out + added.err).not.toContain(partner.apiKey);

    expect(await run(["external", "test", "Partner"])).toMatchObject({ code: 0, err: "" });
    const called = await json(["external", "test", "Partner", "--message", "Ada"]);
    expect(JSON.stringify(called["outcome"])).toContain("Hello, ");
    expect(called).toMatchObject({ outcome: { kind: "task", state: "completed" } });
    const failed = await run(["external", "add", "Broken", `http://${partner.host}/a2a/v1/agents/Broken`, "--bearer"], {
      input,
    });
    expect(failed.code).toBe(0);
    expect(await run(["external", "test", "Broken", "--message", "Ada"])).toMatchObject({ code: 1, err: "" });

    const replace = ["external", "add", "Partner", address, "--bearer", "--replace"];
    expect(await run(replace, { input: "sk_test_wrong\n" })).toMatchObject({ code: 0 });
    const refused = await run(["external", "test", "Partner"]);
    expect(refused).toMatchObject({ code: 1, out: "" });
    expect(refused.err).toContain("The agent answered");

    const list = await json(["external", "list"]);
    expect(list["agents"]).toContainEqual(
      expect.objectContaining({
        name: "Partner",
        credential: { kind: "bearer" },
        health: expect.objectContaining({ calls: 4, errors: 1, lastError: "external_unauthenticated" }),
      }),
    );
    expect((await run(["external", "list"])).out).toMatch(
      /^Partner +external_unauthenticated +JSONRPC 1\.0 +token +4 +25 %/m,
    );
    expect(await run(["external", "remove", "Partner"])).toMatchObject({ code: 0, out: "Removed Partner.\n" });
    expect((await run(["external", "remove", "Partner"])).err).toContain('no outside agent "Partner"');
  });

  test("are refused where a production command line must not go, or with options that contradict each other", async () => {
    const add = ["external", "add", "Inner", "http://127.0.0.1:8080/card.json"];
    const refused = await run(add, { env: { NODE_ENV: "production" } });
    expect(refused).toMatchObject({ code: 1, out: "" });
    expect(await run([...add, "--bearer", "--api-key"])).toMatchObject({ code: 2, out: "" });
  });

  test("are refused where their card is not signed as it must be, and with keys that are none", async () => {
    const partner = await shaman.givenOrg(AGENTS);
    const add = ["external", "add", "Unsigned", `http://${partner.host}/a2a/v1/agents/Greeter`];
    const unsigned = await run([...add, "--signed"]);
    expect(unsigned).toMatchObject({ code: 1, out: "" });
    expect(unsigned.err).toContain("has no signature");
    const noFile = await run([...add, "--signed-by", "/no/such/keys.json"]);
    expect(noFile).toMatchObject({ code: 2, out: "" });
    expect(noFile.err).toContain("neither an address nor a file");
    const inner = await run([...add, "--signed-by", "http://169.254.169.254/keys.json"]);
    expect(inner).toMatchObject({ code: 1, out: "" });
  });
});
