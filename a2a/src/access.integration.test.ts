import { createOperatorPrincipal, revokeApiKey } from "@shaman/access";
import { systemClock, unwrap } from "@shaman/kernel";
import {
  givenKey,
  givenSettings,
  openStream,
  startShaman,
  textMessage,
  type HttpAnswer,
  type Shaman,
  type TestOrg,
} from "@shaman/testkit";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";

const agentFile = (name: string, more: string, model = "echo"): string =>
  `---\nname: ${name}\ndescription: ${name} for tests\n${more}model: scripted/${model}.yaml\n---\nYou repeat.\n`;

const FILES = {
  "Echo.md": agentFile("Echo", "exposed: true\n"),
  "Other.md": agentFile("Other", "exposed: true\nversion: '2.1.0'\ntags: [a, b]\n"),
  "Secret.md": agentFile("Secret", ""),
  "Loose.md": agentFile("Loose", "exposed: true\ndeduplicate: false\n"),
  "Hang.md": agentFile("Hang", "exposed: true\n", "hang"),
  "agents.json": '{"default": "Echo", "Ekko": {"url": "Echo"}}',
  "echo.yaml": "turns:\n  - text: ['You said ', '{{prompt}}']\n",
  "hang.yaml": "turns:\n  - text: [Wait]\n    error: hang\n",
};

const CARD = "/.well-known/agent-card.json";
const cardOf = (agent: string): string => `/a2a/v1/agents/${agent}${CARD}`;

let shaman: Shaman;
let org: TestOrg;
let foreign: TestOrg;
beforeAll(async () => {
  shaman = await startShaman();
  org = await shaman.givenOrg(FILES);
  foreign = await shaman.givenOrg({ ...FILES, "Foreign.md": agentFile("Foreign", "exposed: true\n") });
});
afterAll(() => shaman.close());

type Caller = Pick<TestOrg, "host" | "apiKey">;

const send = (caller: Caller, agent: string, params: unknown = textMessage("hi"), method = "SendMessage") =>
  shaman.rpc(caller, { agent, method, params });

const get = (caller: Caller, path: string, headers: Record<string, string> = {}) =>
  shaman.http(caller, { path, headers });

/** An answer without what is different in every answer. */
const bare = ({ status, headers, text }: HttpAnswer) => {
  const { date: _date, "x-request-id": _id, ...rest } = headers;
  const body = text.replace(/"requestId":"[^"]+"/, "").replace(/"timestamp":"[^"]+"/, "");
  return { status, headers: rest, body };
};

describe("a caller", () => {
  it("with a key that was revoked by somebody who died before telling is refused, though it is remembered", async () => {
    const [caller, earlier] = [await givenKey(shaman, org, {}), await givenKey(shaman, org, {})];
    const statusOf = async (key: TestOrg) => (await get(key, "/a2a/v1/agents")).status;
    const isRefusedUntold = async (key: TestOrg) => {
      expect(await statusOf(key)).toBe(200);
      await shaman.database.inspect("UPDATE api_key SET revoked_at = now() WHERE id = $1", [key.apiKeyId]);
      await vi.waitFor(async () => expect(await statusOf(key)).toBe(401), { timeout: 30_000 });
    };
    // After this the server has been told of both keys' making, so that only the revocation can make it forget.
    await isRefusedUntold(earlier);
    await isRefusedUntold(caller);
  });

  it("with a key of another organization is told exactly what nonsense is told", async () => {
    const operator = createOperatorPrincipal({ orgId: org.orgId, name: "test" });
    const revoked = await givenKey(shaman, org, {});
    const deps = { db: shaman.database.as("web"), clock: systemClock, origin: { server: "test" } };
    unwrap(await revokeApiKey(deps, operator, { keyId: revoked.apiKeyId }));
    const wrongSecret = `${org.apiKey.slice(0, -20)}${foreign.apiKey.slice(-20)}`;
    const keys = ["nonsense", foreign.apiKey, revoked.apiKey, wrongSecret, org.apiKey.toUpperCase(), ""];
    const calls = [
      (apiKey: string) => send({ ...org, apiKey }, "Echo"),
      (apiKey: string) => send({ ...org, apiKey }, "Secret"),
      (apiKey: string) => send({ ...org, apiKey }, "Echo", {}, "Nonsense"),
      (apiKey: string) => get({ ...org, apiKey }, "/a2a/v1/agents"),
      (apiKey: string) => get({ ...org, apiKey }, "/a2a/v1/tasks/task_00000000000000000000000000"),
      (apiKey: string) =>
        shaman.http(
          { ...org, apiKey },
          { method: "POST", path: "/a2a/v1/agents/Echo/execute", body: '{"prompt":"x"}' },
        ),
    ];
    const bodies = new Set<string>();
    for (const call of calls) {
      const [first, ...others] = (await Promise.all(keys.map(call))).map(bare);
      expect(first).toMatchObject({ status: 401, headers: { "www-authenticate": expect.stringContaining("Bearer") } });
      for (const other of others) expect(other).toEqual(first);
      bodies.add(first?.body ?? "");
    }
    expect(bodies.size).toBe(2);
  });

  it("is told the same in other schemes, and gets in whatever the case of Bearer", async () => {
    for (const authorization of [`Basic ${org.apiKey}`, org.apiKey, `Bearer`, `Bearer ${org.apiKey} x`]) {
      const answer = await shaman.http(org, { path: "/a2a/v1/agents", headers: { authorization } });
      expect(answer.status).toBe(401);
    }
    const answer = await shaman.http(org, {
      path: "/a2a/v1/agents",
      headers: { authorization: `bearer ${org.apiKey}` },
    });
    expect(answer.status).toBe(200);
  });

  it("reaches the organization of the Host header, and no forwarded header or tenant changes that", async () => {
    const headers = { "x-forwarded-host": foreign.host, forwarded: `host=${foreign.host}`, "x-tenant": foreign.slug };
    const answer = await shaman.rpc(org, {
      agent: "Echo",
      method: "SendMessage",
      params: textMessage("hi", {}, { tenant: foreign.slug }),
      headers,
    });
    const { id } = answer.json.result.task;
    const rows = await shaman.database.inspect<{ org_id: string }>("SELECT org_id FROM task WHERE id = $1", [id]);
    expect(rows).toEqual([{ org_id: org.orgId }]);
    expect((await shaman.http(org, { path: cardOf("Foreign"), headers })).status).toBe(404);
  });

  it.each([["nobody.localhost"], ["localhost"], ["127.0.0.1"], ["a.b.localhost"], ["acme.example.com"]])(
    "at the host %s finds no organization",
    async (host) => {
      for (const path of [CARD, "/a2a/v1/agents", cardOf("Echo")]) {
        expect(await get({ ...org, host }, path)).toMatchObject({
          status: 404,
          json: { error: { status: "NOT_FOUND" } },
        });
      }
      const answer = await send({ ...org, host }, "Echo");
      expect(answer).toMatchObject({ status: 404, json: { error: { code: -32000 } } });
    },
  );

  it("without the permission on an exposed agent hears which one is missing, and works with its own", async () => {
    const caller = await givenKey(shaman, org, { agents: ["Other"] });
    expect((await send(caller, "Other")).json.result.task.status.state).toBe("TASK_STATE_COMPLETED");
    for (const method of ["SendMessage", "SendStreamingMessage", "GetTask", "CancelTask"]) {
      const answer = await send(caller, "Echo", textMessage("hi"), method);
      expect(answer).toMatchObject({ status: 403, json: { error: { code: -32000, data: [{ reason: "FORBIDDEN" }] } } });
      expect(answer.json.error.message).toContain("agent:execute on /agents/Echo/");
    }
    const short = await shaman.http(caller, {
      method: "POST",
      path: "/a2a/v1/agents/Echo/execute",
      body: '{"prompt":"x"}',
    });
    expect(short).toMatchObject({ status: 403, json: { error: { status: "PERMISSION_DENIED" } } });
    await vi.waitFor(
      async () => {
        const rows = await shaman.database.inspect<{ resource: string; times: number }>(
          `SELECT resource, (details->>'times')::integer AS times FROM audit_log
            WHERE org_id = $1 AND actor = $2 AND action = 'agent:execute' AND result = 'denied'`,
          [org.orgId, `key:${caller.apiKeyId}`],
        );
        expect(new Set(rows.map(({ resource }) => resource))).toEqual(new Set(["/agents/Echo/"]));
        expect(rows.reduce((sum, { times }) => sum + times, 0)).toBe(5);
      },
      { timeout: 30_000 },
    );
  });

  it("cannot tell a private agent or another organization's from one that does not exist", async () => {
    const named = (answer: HttpAnswer, name: string) => {
      const { body, ...rest } = bare(answer);
      return {
        ...rest,
        body: body.replaceAll(name, "NAME"),
        headers: { ...rest.headers, "content-length": undefined },
      };
    };
    const unknown = "Absentee-one";
    for (const name of ["Secret", "Foreign", `agents:Secret`, "Secret/"]) {
      const sent = await send(org, name);
      expect(sent.status).toBe(404);
      expect(named(sent, name.replace("/", ""))).toEqual(named(await send(org, unknown), unknown));
      expect(named(await get(org, cardOf(name)), name)).toEqual(named(await get(org, cardOf(unknown)), unknown));
    }
  });

  it("finds no task of another caller, another agent or another organization, as if it were not there", async () => {
    const { id } = (await send(org, "Echo")).json.result.task;
    const another = await givenKey(shaman, org, {});
    const random = "task_00000000000000000000000000";
    const seen: [Caller, string][] = [
      [another, "Echo"],
      [org, "Other"],
      [foreign, "Echo"],
    ];
    for (const [caller, agent] of seen) {
      for (const method of ["GetTask", "CancelTask"]) {
        const answer = await send(caller, agent, { id }, method);
        expect(answer.json.error).toMatchObject({ code: -32001 });
        expect(bare(answer)).toEqual(bare(await send(caller, agent, { id: random }, method)));
      }
      const said = textMessage("x", { taskId: id });
      const toRandom = { message: { ...said.message, taskId: random } };
      expect(bare(await send(caller, agent, said))).toEqual(bare(await send(caller, agent, toRandom)));
    }
    for (const caller of [another, foreign]) {
      const answer = await get(caller, `/a2a/v1/tasks/${id}`);
      expect(answer.status).toBe(404);
      expect(bare(answer)).toEqual(bare(await get(caller, `/a2a/v1/tasks/${random}`)));
    }
  });

  it("keeps its own context apart from another caller's of the same name", async () => {
    const another = await givenKey(shaman, org, {});
    const [mine, theirs] = await Promise.all(
      [org, another].map((caller) => send(caller, "Echo", textMessage("hi", { contextId: "shared" }))),
    );
    expect(mine?.json.result.task.contextId).toBe("shared");
    expect(theirs?.json.result.task.contextId).toBe("shared");
    const rows = await shaman.database.inspect(
      "SELECT DISTINCT principal FROM context WHERE org_id = $1 AND id = 'shared'",
      [org.orgId],
    );
    expect(rows).toHaveLength(2);
  });
});

describe("rate limits", () => {
  const many = (caller: Caller, count: number) =>
    Promise.all(Array.from({ length: count }, () => get(caller, "/a2a/v1/agents")));
  const statuses = (answers: readonly HttpAnswer[]) => answers.map(({ status }) => status).toSorted((a, b) => a - b);

  it("hold a key to its own rate and burst, and say when to come back", async () => {
    const caller = await givenKey(shaman, org, { ratePerSecond: 2 });
    const answers = await many(caller, 8);
    expect(statuses(answers).slice(-3)).toEqual([429, 429, 429]);
    const refused = answers.find(({ status }) => status === 429);
    expect(Number(refused?.headers["retry-after"])).toBeGreaterThanOrEqual(1);
    expect(refused?.json.error).toMatchObject({ code: 429, status: "RESOURCE_EXHAUSTED" });
    const rpc = await send(caller, "Echo");
    expect(rpc).toMatchObject({
      status: 429,
      json: { error: { code: -32000, data: [{ reason: "TOO_MANY_REQUESTS" }] } },
    });
    expect((await get(org, "/a2a/v1/agents")).status).toBe(200);
  });

  it("hold an organization to its rate over all its keys, and no other", async () => {
    const busy = await shaman.givenOrg(FILES);
    await givenSettings(shaman, busy, { intake: { organizationRatePerSecond: 2 } });
    const keys = await Promise.all([1, 2].map(() => givenKey(shaman, busy, {})));
    const answers = (await Promise.all(keys.map((key) => many(key, 5)))).flat();
    expect(statuses(answers).slice(-4)).toEqual([429, 429, 429, 429]);
    expect((await get(foreign, "/a2a/v1/agents")).status).toBe(200);
  });

  it("hold a caller to its number of open streams, and give the place back", async () => {
    const few = await shaman.givenOrg(FILES);
    await givenSettings(shaman, few, { intake: { openStreamsPerCaller: 1 } });
    const stream = await openStream(shaman, few, { agent: "Hang", params: textMessage("hi") });
    await stream.next();
    const refused = await send(few, "Echo", textMessage("hi"), "SendStreamingMessage");
    expect(refused).toMatchObject({ status: 429, json: { id: 1, error: { code: -32000 } } });
    stream.leave();
    await vi.waitFor(async () => {
      const next = await openStream(shaman, few, { agent: "Echo", params: textMessage("hi") });
      expect(next.status).toBe(200);
      expect(await next.rest()).not.toEqual([]);
    });
  });

  it("hold an organization to its number of unfinished runs", async () => {
    const small = await shaman.givenOrg(FILES);
    await givenSettings(shaman, small, { intake: { queuedRuns: 1, blockingWaitSeconds: 1 } });
    expect((await send(small, "Hang")).json.result.task.status.state).toBe("TASK_STATE_WORKING");
    const refused = await vi.waitFor(async () => {
      const answer = await send(small, "Echo");
      expect(answer.status).toBe(429);
      return answer;
    });
    expect(refused.json.error).toMatchObject({ code: -32000, data: [{ reason: "TOO_MANY_REQUESTS" }] });
    expect(Number(refused.headers["retry-after"])).toBeGreaterThanOrEqual(1);
  });
});

describe("an agent's card", () => {
  it("has every required field, the address it is called at, and nothing of how the agent works", async () => {
    const { status, headers, json, text } = await get({ ...org, apiKey: "" }, cardOf("Other"));
    expect(status).toBe(200);
    expect(headers["content-type"]).toContain("application/json");
    expect(json).toMatchObject({
      name: "Other",
      description: "Other for tests",
      version: "2.1.0",
      supportedInterfaces: [
        { url: `http://${org.host}/a2a/v1/agents/Other`, protocolBinding: "JSONRPC", protocolVersion: "1.0" },
      ],
      capabilities: { streaming: true, pushNotifications: false, extendedAgentCard: false },
      securitySchemes: { apiKey: { httpAuthSecurityScheme: { scheme: "Bearer" } } },
      securityRequirements: [{ schemes: { apiKey: { list: [] } } }],
      defaultInputModes: expect.arrayContaining(["text/plain"]),
      defaultOutputModes: expect.arrayContaining(["text/plain"]),
      skills: [{ id: "Other", name: "Other", description: "Other for tests", tags: ["a", "b"] }],
    });
    expect(text).not.toMatch(/scripted|You repeat|"kind"|"security":/);
  });

  it("is found at its own address, by alias, and for the default agent at the organization's root", async () => {
    const own = await get(org, cardOf("Echo"));
    expect((await get(org, cardOf("Ekko"))).text).toBe(own.text);
    expect((await get(org, CARD)).text).toBe(own.text);
    expect((await get(org, `${CARD}/`)).text).toBe(own.text);
    expect((await get(org, CARD, { "a2a-version": "0.3" })).text).toBe(own.text);
  });

  it("is cached by its tag", async () => {
    const { headers } = await get(org, cardOf("Echo"));
    expect(headers["cache-control"]).toContain("max-age=");
    const etag = String(headers.etag);
    for (const known of [etag, `W/${etag}`, `"x", ${etag}`, "*"]) {
      const answer = await get(org, cardOf("Echo"), { "if-none-match": known });
      expect(answer).toMatchObject({ status: 304, text: "", headers: { etag } });
    }
    expect((await get(org, cardOf("Echo"), { "if-none-match": '"x"' })).status).toBe(200);
  });

  it("does not exist where the organization has no default agent", async () => {
    const { "agents.json": _none, ...files } = FILES;
    const undecided = await shaman.givenOrg(files);
    expect(await get(undecided, CARD)).toMatchObject({ status: 404, json: { error: { status: "NOT_FOUND" } } });
  });
});

describe("the catalogue", () => {
  const names = ({ json }: HttpAnswer) => json.agents.map(({ name }: { readonly name: string }) => name);

  it("holds the cards of the exposed agents that the caller may call", async () => {
    const all = await get(org, "/a2a/v1/agents");
    expect(names(all)).toEqual(["Echo", "Hang", "Loose", "Other"]);
    expect(all.json.agents[0]).toEqual((await get(org, cardOf("Echo"))).json);
    expect(names(await get(await givenKey(shaman, org, { agents: ["Other"] }), "/a2a/v1/agents/"))).toEqual(["Other"]);
  });
});

describe("the short form", () => {
  const execute = (caller: Caller, body: unknown, headers: Record<string, string> = {}, agent = "Echo") =>
    shaman.http(caller, {
      method: "POST",
      path: `/a2a/v1/agents/${agent}/execute`,
      body: typeof body === "string" ? body : JSON.stringify(body),
      headers,
    });

  it("answers at once with where to look, and the task is there as A2A has it", async () => {
    const answer = await execute(org, { prompt: "hi", context: { order: 7 } }, { "a2a-version": "" });
    expect(answer.status).toBe(202);
    const { taskId, contextId, status, statusUrl } = answer.json;
    expect(status).toBe("TASK_STATE_SUBMITTED");
    expect(statusUrl).toBe(`http://${org.host}/a2a/v1/tasks/${taskId}`);
    expect(answer.headers.location).toBe(statusUrl);
    const done = await vi.waitFor(async () => {
      const seen = await get(org, `/a2a/v1/tasks/${taskId}`);
      expect(seen.json.status.state).toBe("TASK_STATE_COMPLETED");
      return seen;
    });
    expect(done.json).toMatchObject({
      id: taskId,
      contextId,
      artifacts: [{ parts: [{ text: 'You said hi\n{"order":7}' }] }],
      history: [{ role: "ROLE_USER", parts: [{ text: "hi" }, { data: { order: 7 } }] }],
    });
    const same = await send(org, "Echo", { id: taskId }, "GetTask");
    expect(same.json.result).toEqual(done.json);
    expect((await get(org, `/a2a/v1/tasks/${taskId}/`)).json).toEqual(done.json);
  });

  it("gives one task for one Idempotency-Key however often it comes, and refuses the key for something else", async () => {
    const headers = { "idempotency-key": "order-4711" };
    const answers = await Promise.all(Array.from({ length: 10 }, () => execute(org, { prompt: "once" }, headers)));
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 202));
    expect(new Set(answers.map(({ json }) => json.taskId)).size).toBe(1);
    const other = await execute(org, { prompt: "twice" }, headers);
    expect(other).toMatchObject({ status: 400, json: { error: { code: 400, status: "INVALID_ARGUMENT" } } });
    const elsewhere = await execute(org, { prompt: "twice" }, headers, "Other");
    expect(elsewhere.status).toBe(202);
    const unkeyed = await Promise.all([1, 2].map(() => execute(org, { prompt: "once" })));
    expect(new Set(unkeyed.map(({ json }) => json.taskId)).size).toBe(2);
  });

  it.each([
    ["no prompt", {}, "prompt"],
    ["an empty prompt", { prompt: "" }, "prompt"],
    ["a prompt that is a number", { prompt: 5 }, "prompt"],
    ["a prompt of 512,001 bytes", { prompt: "x".repeat(512_001) }, "prompt"],
    ["a context that is a text", { prompt: "x", context: "y" }, "context"],
    [
      "a context that is nested too deep",
      `{"prompt":"x","context":{"a":${"[".repeat(200_000)}${"]".repeat(200_000)}}}`,
      "context",
    ],
    ["a list as body", [], "prompt"],
  ])("refuses %s, naming the field", async (_what, body, field) => {
    const answer = await execute(org, body);
    expect(answer.status).toBe(400);
    const [info, bad] = answer.json.error.details;
    expect(info).toMatchObject({ "@type": "type.googleapis.com/google.rpc.ErrorInfo", reason: "INVALID_PARAMS" });
    expect(bad.fieldViolations).toMatchObject([{ field }]);
  });

  it("refuses in HTTP's own form what never reached the agent", async () => {
    const key = { "idempotency-key": "x".repeat(257) };
    expect(await execute(org, { prompt: "x" }, key)).toMatchObject({
      status: 400,
      json: { error: { status: "INVALID_ARGUMENT" } },
    });
    expect(await execute(org, "{")).toMatchObject({ status: 400, json: { error: { code: 400 } } });
    expect(await execute(org, { prompt: "x" }, {}, "Secret")).toMatchObject({
      status: 404,
      json: { error: { code: 404 } },
    });
    expect(await execute(org, { prompt: "x" }, { "content-type": "text/plain" })).toMatchObject({ status: 415 });
    expect(await execute(org, " ".repeat(1_000_001), {}, "Echo")).toMatchObject({
      status: 413,
      json: { error: { code: 413 } },
    });
    const slashed = await shaman.http(org, { method: "POST", path: "/a2a/v1/agents/Echo/execute/", body: "" });
    expect(slashed).toMatchObject({ status: 400, json: { error: { code: 400 } } });
  });
});

describe("an Idempotency-Key on SendMessage", () => {
  it("counts even for an agent whose callers may reuse message ids", async () => {
    const params = textMessage("again");
    const ids = async (headers: Record<string, string>) => {
      const calls = [1, 2].map(() => shaman.rpc(org, { agent: "Loose", method: "SendMessage", params, headers }));
      return new Set((await Promise.all(calls)).map(({ json }) => json.result.task.id)).size;
    };
    expect(await ids({})).toBe(2);
    expect(await ids({ "idempotency-key": "k-1" })).toBe(1);
    const long = { "idempotency-key": "k".repeat(257) };
    const refused = await shaman.rpc(org, { agent: "Loose", method: "SendMessage", params, headers: long });
    expect(refused.json.error).toMatchObject({ code: -32602 });
  });
});
