import { givenSettings, startShaman, textMessage, type HttpAnswer, type Shaman, type TestOrg } from "@shaman/testkit";
import { Readable } from "node:stream";
import { request } from "undici";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const agentFile = (name: string, more: string): string =>
  `---\nname: ${name}\ndescription: An agent for tests\n${more}model: scripted/echo.yaml\n---\nYou repeat.\n`;

const FILES = {
  "Echo.md": agentFile("Echo", "exposed: true\n"),
  "Loose.md": agentFile("Loose", "exposed: true\ndeduplicate: false\n"),
  "echo.yaml": "turns:\n  - text: ['You said ', '{{prompt}}']\n",
};

let shaman: Shaman;
let org: TestOrg;
beforeAll(async () => {
  shaman = await startShaman();
  org = await shaman.givenOrg(FILES);
});
afterAll(() => shaman.close());

const post = (body: string, headers: Record<string, string> = {}, path = "/a2a/v1/agents/Echo"): Promise<HttpAnswer> =>
  shaman.http(org, { method: "POST", path, body, headers });

const send = (params: unknown, method = "SendMessage"): Promise<HttpAnswer> =>
  shaman.rpc(org, { agent: "Echo", method, params });

const rpcText = (fields: object): string => JSON.stringify({ jsonrpc: "2.0", id: 7, method: "SendMessage", ...fields });

const infoOf = (answer: HttpAnswer) => answer.json.error.data[0];

const expectError = (answer: HttpAnswer, code: number, reason: string): void => {
  expect(answer.json, answer.text).toMatchObject({ jsonrpc: "2.0", error: { code, message: expect.any(String) } });
  expect(answer.json).not.toHaveProperty("result");
  expect(infoOf(answer)).toMatchObject({
    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
    reason,
    domain: "a2a-protocol.org",
    metadata: { requestId: answer.headers["x-request-id"] },
  });
  expect(answer.text).not.toMatch(/\.ts[:"]|node_modules|\bat (?:async )?\w+ \(/);
};

const violationsOf = (answer: HttpAnswer): readonly string[] =>
  answer.json.error.data[1].fieldViolations.map((one: { readonly field: string }) => one.field);

describe("a JSON-RPC envelope", () => {
  it.each([
    ["is not JSON", '{"jsonrpc": "2.0",', -32700, "PARSE_ERROR", null],
    ["is empty", "", -32700, "PARSE_ERROR", null],
    ["is a batch", `[${rpcText({})}]`, -32600, "INVALID_REQUEST", null],
    ["is no object", "42", -32600, "INVALID_REQUEST", null],
    ["is null", "null", -32600, "INVALID_REQUEST", null],
    ["has no id", '{"jsonrpc":"2.0","method":"GetTask","params":{"id":"x"}}', -32600, "INVALID_REQUEST", null],
    ["has a null id", rpcText({ id: null }), -32600, "INVALID_REQUEST", null],
    ["has an object as id", rpcText({ id: {} }), -32600, "INVALID_REQUEST", null],
    ["has a fractional id", rpcText({ id: 1.5 }), -32600, "INVALID_REQUEST", 1.5],
    ["is of JSON-RPC 1.0", rpcText({ jsonrpc: "1.0" }), -32600, "INVALID_REQUEST", 7],
    ["names no version of JSON-RPC", rpcText({ jsonrpc: undefined }), -32600, "INVALID_REQUEST", 7],
    ["names no method", rpcText({ method: undefined }), -32600, "INVALID_REQUEST", 7],
    ["names a method that is no text", rpcText({ method: 1 }), -32600, "INVALID_REQUEST", 7],
    ["names an unknown method", rpcText({ method: "Nonsense" }), -32601, "METHOD_NOT_FOUND", 7],
    ["names a method of another spelling", rpcText({ method: "sendMessage" }), -32601, "METHOD_NOT_FOUND", 7],
    ["names a method of version 0.3", rpcText({ method: "message/send" }), -32601, "METHOD_NOT_FOUND", 7],
    ["has no params", rpcText({}), -32602, "INVALID_PARAMS", 7],
    ["has a list as params", rpcText({ params: [] }), -32602, "INVALID_PARAMS", 7],
  ])("that %s is refused with the code for it", async (_what, body, code, reason, id) => {
    const answer = await post(body);
    expect(answer.status).toBe(200);
    expect(answer.headers["content-type"]).toContain("application/json");
    expectError(answer, code, reason);
    expect(answer.json.id).toBe(id);
  });

  it.each([["text"], [0], [-3], ["7"], [4_294_967_296]])("gets its id %j back as it was", async (id) => {
    const answer = await post(rpcText({ id, params: textMessage("hi") }));
    expect(answer.json.id).toBe(id);
    expect(answer.json.result.task.status.state).toBe("TASK_STATE_COMPLETED");
  });

  it("that is not UTF-8 is refused instead of being misread", async () => {
    const answer = await request(`${shaman.publicUrl}/a2a/v1/agents/Echo`, {
      method: "POST",
      headers: {
        host: org.host,
        authorization: `Bearer ${org.apiKey}`,
        "content-type": "application/json",
        "a2a-version": "1.0",
      },
      body: Buffer.concat([Buffer.from(rpcText({}).slice(0, -1)), Buffer.from([0xff, 0xfe]), Buffer.from("}")]),
    });
    expect(answer.statusCode).toBe(200);
    expect(await answer.body.json()).toMatchObject({ error: { code: -32700 } });
  });

  it.each([["application/json; charset=utf-8"], ["application/a2a+json"], ["APPLICATION/JSON"]])(
    "is read when it comes as %s",
    async (type) => {
      const answer = await post(rpcText({ params: textMessage("hi") }), { "content-type": type });
      expect(answer.json.result.task.status.state).toBe("TASK_STATE_COMPLETED");
    },
  );

  it.each([["text/plain"], ["application/xml"], ["application/jsonx"]])(
    "is refused when it comes as %s",
    async (type) => {
      const answer = await post(rpcText({ params: textMessage("hi") }), { "content-type": type });
      expect(answer.status).toBe(415);
      expectError(answer, -32005, "MEDIA_TYPE_NOT_SUPPORTED");
    },
  );
});

describe("the A2A version", () => {
  const inVersion = (version: string, query = ""): Promise<HttpAnswer> =>
    post(rpcText({ params: textMessage("hi") }), { "a2a-version": version }, `/a2a/v1/agents/Echo${query}`);

  it.each([
    ["1.0", ""],
    ["1.0.1", ""],
    ["1.0.7", ""],
    [" 1.0 ", ""],
    ["", "?A2A-Version=1.0"],
    ["", "?a2a-version=1.0.3"],
    ["1.0", "?A2A-Version=0.3"],
  ])("%j with the query %j is served: the header wins, patches do not count", async (version, query) => {
    const answer = await inVersion(version, query);
    expect(answer.json.result?.task.status.state, answer.text).toBe("TASK_STATE_COMPLETED");
  });

  it.each([
    ["", ""],
    ["0.3", ""],
    ["0.3.0", ""],
    ["1", ""],
    ["1.1", ""],
    ["2.0", ""],
    ["1.0.x", ""],
    ["1.0.", ""],
    ["01.0", ""],
    ["one", ""],
    ["0.3", "?A2A-Version=1.0"],
    ["", "?A2A-Version=0.3"],
  ])("%j with the query %j is refused, saying what is supported", async (version, query) => {
    const answer = await inVersion(version, query);
    expect(answer.status).toBe(200);
    expectError(answer, -32009, "VERSION_NOT_SUPPORTED");
    expect(answer.json.error.message).toContain("A2A-Version: 1.0");
    expect(infoOf(answer).metadata.supportedVersions).toBe("1.0");
  });
});

describe("what this agent does not offer", () => {
  const OPERATIONS: readonly [string, number, string][] = [
    ["ListTasks", -32004, "UNSUPPORTED_OPERATION"],
    ["SubscribeToTask", -32004, "UNSUPPORTED_OPERATION"],
    ["GetExtendedAgentCard", -32004, "UNSUPPORTED_OPERATION"],
    ["CreateTaskPushNotificationConfig", -32003, "PUSH_NOTIFICATION_NOT_SUPPORTED"],
    ["GetTaskPushNotificationConfig", -32003, "PUSH_NOTIFICATION_NOT_SUPPORTED"],
    ["ListTaskPushNotificationConfigs", -32003, "PUSH_NOTIFICATION_NOT_SUPPORTED"],
    ["DeleteTaskPushNotificationConfig", -32003, "PUSH_NOTIFICATION_NOT_SUPPORTED"],
  ];
  const PARAMS = [undefined, null, [], {}, { "": 1, id: "task_x", taskId: "task_x", url: "http://127.0.0.1/" }];

  it.each(OPERATIONS)("is refused: %s, whatever its parameters", async (method, code, reason) => {
    for (const params of PARAMS) {
      const answer = await post(rpcText({ method, params }));
      expect(answer.status).toBe(200);
      expectError(answer, code, reason);
    }
  });

  it("is refused inside a send as well, before anything is recorded: a push configuration", async () => {
    const params = textMessage(
      "push?",
      {},
      { configuration: { taskPushNotificationConfig: { url: "https://example.com" } } },
    );
    for (const method of ["SendMessage", "SendStreamingMessage"]) {
      expectError(await send(params, method), -32003, "PUSH_NOTIFICATION_NOT_SUPPORTED");
    }
    const rows = await shaman.database.inspect("SELECT 1 FROM message WHERE content->>'messageId' = $1", [
      params.message.messageId,
    ]);
    expect(rows).toEqual([]);
  });
});

const message = (fields: object) => ({
  message: { messageId: "bad", role: "ROLE_USER", parts: [{ text: "hi" }], ...fields },
});
const part = (value: unknown) => message({ parts: [value] });
const configured = (configuration: object) => ({ ...message({}), configuration });
const nested = (depth: number): unknown => JSON.parse("[".repeat(depth) + "]".repeat(depth));

describe("a message", () => {
  const BAD: readonly [string, unknown, string][] = [
    ["no message", {}, "message"],
    ["a message that is a text", { message: "hi" }, "message"],
    ["no messageId", message({ messageId: undefined }), "message.messageId"],
    ["an empty messageId", message({ messageId: "" }), "message.messageId"],
    ["a messageId that is a number", message({ messageId: 5 }), "message.messageId"],
    ["a messageId of 257 characters", message({ messageId: "x".repeat(257) }), "message.messageId"],
    ["a messageId with a NUL", message({ messageId: "a\u0000b" }), "message.messageId"],
    ["no role", message({ role: undefined }), "message.role"],
    ["the agent's role", message({ role: "ROLE_AGENT" }), "message.role"],
    ["an unspecified role", message({ role: "ROLE_UNSPECIFIED" }), "message.role"],
    ["an unknown role", message({ role: "user" }), "message.role"],
    ["no parts", message({ parts: undefined }), "message.parts"],
    ["empty parts", message({ parts: [] }), "message.parts"],
    ["51 parts", message({ parts: Array.from({ length: 51 }, () => ({ text: "x" })) }), "message.parts"],
    ["parts that are no list", message({ parts: { text: "x" } }), "message.parts"],
    ["a part that is a text", part("hi"), "message.parts[0]"],
    ["a part without content", part({ mediaType: "text/plain" }), "message.parts[0]"],
    ["a part with a null text", part({ text: null }), "message.parts[0]"],
    ["a part of version 0.3 with a file", part({ kind: "file", file: {} }), "message.parts[0]"],
    ["a part with two contents", part({ text: "a", data: {} }), "message.parts[0]"],
    ["a part whose text is a number", part({ text: 5 }), "message.parts[0].text"],
    ["a part with bad base64", part({ raw: "no base64!" }), "message.parts[0].raw"],
    ["a part with cut base64", part({ raw: "abcde" }), "message.parts[0].raw"],
    ["a part whose metadata is a list", part({ text: "a", metadata: [] }), "message.parts[0].metadata"],
    ["a text of 512,001 bytes", part({ text: "x".repeat(512_001) }), "message.parts[0].text"],
    ["a text of 512,001 bytes in fewer characters", part({ text: "ü".repeat(256_000) + "x" }), "message.parts[0].text"],
    ["data of 512,001 bytes", part({ data: "x".repeat(512_001) }), "message.parts[0].data"],
    ["a file of 512,001 bytes", part({ raw: Buffer.alloc(512_001).toString("base64") }), "message.parts[0].raw"],
    ["data nested 101 deep", part({ data: nested(102) }), "message.parts[0].data"],
    ["data nested 200,000 deep", part({ data: "DEEP" }), "message.parts[0].data"],
    ["metadata that is a text", message({ metadata: "x" }), "message.metadata"],
    ["extensions that are a text", message({ extensions: "x" }), "message.extensions"],
    ["references that are numbers", message({ referenceTaskIds: [1] }), "message.referenceTaskIds"],
    ["a contextId that is a number", message({ contextId: 5 }), "message.contextId"],
    ["a contextId with a NUL", message({ contextId: "\u0000" }), "message.contextId"],
    ["a contextId of 257 characters", message({ contextId: "x".repeat(257) }), "message.contextId"],
    ["a negative historyLength", configured({ historyLength: -1 }), "configuration.historyLength"],
    ["a historyLength that is a word", configured({ historyLength: "many" }), "configuration.historyLength"],
    ["a historyLength of 10.5", configured({ historyLength: 10.5 }), "configuration.historyLength"],
    ["a historyLength beyond int32", configured({ historyLength: 2_147_483_648 }), "configuration.historyLength"],
    ["returnImmediately as a text", configured({ returnImmediately: "true" }), "configuration.returnImmediately"],
    [
      "output modes that are a text",
      configured({ acceptedOutputModes: "text/plain" }),
      "configuration.acceptedOutputModes",
    ],
    ["a configuration that is a list", { ...message({}), configuration: [] }, "configuration"],
    ["metadata of the request that is a list", { ...message({}), metadata: [] }, "metadata"],
    ["a tenant that is a number", { ...message({}), tenant: 1 }, "tenant"],
    ["one field in both spellings", message({ context_id: "a", contextId: "a" }), "message.contextId"],
  ];

  it.each(BAD)("with %s is refused, naming the field", async (_what, params, field) => {
    for (const method of ["SendMessage", "SendStreamingMessage"]) {
      const body = rpcText({ method, params }).replace('"DEEP"', "[".repeat(200_000) + "]".repeat(200_000));
      const answer = await post(body);
      expect(answer.status).toBe(200);
      expectError(answer, -32602, "INVALID_PARAMS");
      expect(answer.json.error.data[1]["@type"]).toBe("type.googleapis.com/google.rpc.BadRequest");
      expect(violationsOf(answer)).toContain(field);
      expect(answer.json.error.message.length).toBeLessThan(500);
    }
    expect(await shaman.database.inspect("SELECT 1 FROM message WHERE content->>'messageId' = 'bad'")).toEqual([]);
  });

  it("with several faults hears of all of them", async () => {
    const answer = await send({ message: { messageId: "", role: "x", parts: [{}, { text: 1 }] } });
    expect(violationsOf(answer)).toEqual(
      expect.arrayContaining(["message.messageId", "message.role", "message.parts[0]", "message.parts[1].text"]),
    );
  });

  it.each([["image/svg+xml"], ["text/html"], ["application/octet-stream"]])(
    "with a part of type %s is refused as such",
    async (type) => {
      const answer = await send(part({ raw: "aGk=", mediaType: type }));
      expectError(answer, -32005, "CONTENT_TYPE_NOT_SUPPORTED");
      expect(answer.json.error.message).toContain("text/plain");
    },
  );

  const GOOD: readonly [string, object, string][] = [
    ["50 parts", { parts: Array.from({ length: 50 }, () => ({ text: "x" })) }, "x\nx\nx"],
    ["a text of 512,000 bytes", { parts: [{ text: "x".repeat(512_000) }] }, "xxx"],
    [
      "a file of 512,000 bytes",
      { parts: [{ raw: Buffer.alloc(512_000).toString("base64"), filename: "f" }] },
      "[file f]",
    ],
    ["an image", { parts: [{ raw: "iVBORw0KGgo=", mediaType: "image/png", filename: "f" }] }, "[file f]"],
    ["data that is null", { parts: [{ data: null }] }, "null"],
    ["data nested 100 deep", { parts: [{ data: nested(100) }] }, "[[["],
    ["an empty text", { parts: [{ text: "" }, { text: "b" }] }, "\nb"],
    ["base64url without padding", { parts: [{ raw: "_-8", filename: "f" }] }, "[file f]"],
    [
      "a url of unknown type",
      { parts: [{ url: "https://example.com/a", filename: "f" }] },
      "[file f at https://example.com/a]",
    ],
    ["a media type with a parameter", { parts: [{ text: "p", mediaType: "Text/Plain; charset=utf-8" }] }, "p"],
    ["unknown fields", { kind: "message", surprise: 1, parts: [{ kind: "text", text: "u", more: {} }] }, "u"],
    ["a null beside its content", { parts: [{ text: "n", url: null, raw: null }] }, "n"],
    ["NUL and lone surrogates in a text", { parts: [{ text: "a\u0000b\ud800c" }] }, "a\ufffdb\ufffdc"],
    ["a role by number", { role: 1, parts: [{ text: "r" }] }, "r"],
    [
      "references to tasks that it may not see",
      { referenceTaskIds: ["task_unknown"], parts: [{ text: "ref" }] },
      "ref",
    ],
  ];

  it.each(GOOD)("with %s is taken", async (_what, fields, said) => {
    const answer = await send(textMessage("", JSON.parse(JSON.stringify(fields))));
    expect(answer.json.result?.task.status.state, answer.text.slice(0, 500)).toBe("TASK_STATE_COMPLETED");
    const { parts } = answer.json.result.task.artifacts[0];
    expect(parts).toHaveLength(1);
    // What is larger than a row may hold comes as an address.
    const asAddress = expect.objectContaining({ url: expect.any(String), mediaType: "text/plain" });
    const asText = expect.objectContaining({ text: expect.stringContaining(`You said ${said}`) });
    expect(parts[0]).toEqual(parts[0].text === undefined ? asAddress : asText);
  });

  it("keeps what it says: parts of every kind, metadata, extensions and references come back in the history", async () => {
    const parts = [
      { text: "a", metadata: { "urn:x": [1, null, { b: true }] } },
      { data: { n: 1.5, list: [null], deep: { t: "x" } }, mediaType: "application/json" },
      { data: null },
      { data: [1, "two"] },
      { raw: "aGk=", filename: "hi.txt", mediaType: "text/plain" },
      { url: "https://example.com/a.md", mediaType: "text/markdown" },
    ];
    const fields = { parts, metadata: { k: "v" }, extensions: ["urn:y"], referenceTaskIds: ["task_z"] };
    const { json } = await send(textMessage("", fields));
    const { id, contextId, history } = json.result.task;
    expect(history).toEqual([{ messageId: expect.any(String), role: "ROLE_USER", taskId: id, contextId, ...fields }]);
  });

  it("is read in snake_case as in camelCase", async () => {
    const answer = await send({
      message: {
        message_id: "snake-1",
        role: "ROLE_USER",
        context_id: "snake-ctx",
        reference_task_ids: [],
        parts: [{ text: "s", media_type: "text/plain" }],
      },
      configuration: { history_length: "0", return_immediately: false, accepted_output_modes: ["text/plain"] },
    });
    const { task } = answer.json.result;
    expect(task).toMatchObject({ contextId: "snake-ctx", status: { state: "TASK_STATE_COMPLETED" } });
    expect(task).not.toHaveProperty("history");
    const same = await send({
      message: {
        messageId: "snake-1",
        role: "ROLE_USER",
        contextId: "snake-ctx",
        parts: [{ text: "s", mediaType: "text/plain" }],
      },
    });
    expect(same.json.result.task.id).toBe(task.id);
    const seen = await send({ id: task.id, history_length: 1 }, "GetTask");
    expect(seen.json.result.history).toHaveLength(1);
  });

  it("goes to the agent with and without a slash at the end of the address", async () => {
    for (const path of ["/a2a/v1/agents/Echo", "/a2a/v1/agents/Echo/"]) {
      const answer = await post(rpcText({ params: textMessage("hi") }), {}, path);
      expect(answer.json.result.task.artifacts[0].parts).toEqual([{ text: "You said hi" }]);
    }
  });
});

describe("a request body", () => {
  const padded = (bytes: number): string => {
    const body = rpcText({ params: textMessage("padded") });
    return body + " ".repeat(bytes - Buffer.byteLength(body));
  };

  it("of exactly 1 MB is served, one byte more is refused with 413", async () => {
    expect((await post(padded(1_000_000))).json.result.task.status.state).toBe("TASK_STATE_COMPLETED");
    const answer = await post(padded(1_000_001));
    expect(answer.status).toBe(413);
    expectError(answer, -32000, "BODY_TOO_LARGE");
  });

  it("is counted as it arrives where its length is not announced, and its sender reads the refusal", async () => {
    const answer = await request(`${shaman.publicUrl}/a2a/v1/agents/Echo`, {
      method: "POST",
      headers: {
        host: org.host,
        authorization: `Bearer ${org.apiKey}`,
        "content-type": "application/json",
        "a2a-version": "1.0",
      },
      body: Readable.from(Array.from({ length: 40 }, () => Buffer.alloc(100_000, " "))),
    });
    expect(answer.statusCode).toBe(413);
    expect(await answer.body.json()).toMatchObject({ error: { code: -32000 } });
  });

  it("and its message are held to what the organization has set", async () => {
    const strict = await shaman.givenOrg(FILES);
    await givenSettings(shaman, strict, { intake: { requestBodyBytes: 2_000, messageParts: 1, partBytes: 10 } });
    const sendTo = (params: unknown) => shaman.rpc(strict, { agent: "Echo", method: "SendMessage", params });
    expect((await sendTo(textMessage("ten bytes."))).json.result.task.status.state).toBe("TASK_STATE_COMPLETED");
    expect(violationsOf(await sendTo(textMessage("ten bytes.!")))).toEqual(["message.parts[0].text"]);
    expect(violationsOf(await sendTo(textMessage("", { parts: [{ text: "a" }, { text: "b" }] })))).toEqual([
      "message.parts",
    ]);
    const answer = await shaman.http(strict, { method: "POST", path: "/a2a/v1/agents/Echo", body: " ".repeat(2_001) });
    expect(answer.status).toBe(413);
  });
});

describe("GetTask and CancelTask", () => {
  it.each([
    ["no id", {}, "id"],
    ["a null id", { id: null }, "id"],
    ["an id that is a number", { id: 5 }, "id"],
    ["a negative historyLength", { id: "task_x", historyLength: -1 }, "historyLength"],
    ["a historyLength that is a word", { id: "task_x", historyLength: "x" }, "historyLength"],
    ["a list as parameters", [], "id"],
    ["null as parameters", null, "id"],
  ])("refuse %s", async (_what, params, field) => {
    for (const method of ["GetTask", "CancelTask"]) {
      const answer = await send(params, method);
      expectError(answer, -32602, "INVALID_PARAMS");
      expect(violationsOf(answer)).toContain(field);
    }
  });

  it.each([["task_00000000000000000000000000"], ["nonsense"], ["a\u0000b"], ["x".repeat(10_000)], ["../../etc"]])(
    "do not find %j",
    async (id) => {
      for (const method of ["GetTask", "CancelTask"]) {
        const answer = await send({ id }, method);
        expect(answer.status).toBe(200);
        expectError(answer, -32001, "TASK_NOT_FOUND");
      }
      expectError(await send(textMessage("more", { taskId: id })), -32001, "TASK_NOT_FOUND");
    },
  );
});

describe("an address that is none", () => {
  it.each([
    ["GET", "/"],
    ["GET", "/a2a/v1/agents/Echo"],
    ["GET", "/a2a/v1/agents/Echo/tasks/x"],
    ["GET", "/a2a/v1/tasks"],
    ["POST", "/nowhere"],
    ["POST", "/a2a/v1/agents/"],
    ["GET", "/metrics"],
    ["GET", "/%"],
    ["GET", "/a2a/v1/agents/%ff/.well-known/agent-card.json"],
  ] as const)("is answered in our words: %s %s", async (method, path) => {
    const answer = await shaman.http(org, { method, path, ...(method === "POST" && { body: "{}" }) });
    expect([400, 404]).toContain(answer.status);
    expect(answer.json.error.message, answer.text).toEqual(expect.any(String));
    expect(answer.text).not.toMatch(/FST_ERR|\.ts:|node_modules/);
  });
});
