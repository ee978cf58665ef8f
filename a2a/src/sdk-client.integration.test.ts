import { Role, TaskState, type Message, type Task } from "@a2a-js/sdk";
import { ClientFactory, DefaultAgentCardResolver, JsonRpcTransportFactory, type Client } from "@a2a-js/sdk/client";
import { startShaman, type Shaman, type TestOrg } from "@shaman/testkit";
import { Readable } from "node:stream";
import { request } from "undici";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const agentFile = (name: string, more = ""): string =>
  `---\nname: ${name}\ndescription: ${name} for tests\nexposed: true\n${more}model: scripted/${name}.yaml\n---\nYou are ${name}.\n`;

const FILES = {
  "Greeter.md": agentFile("Greeter"),
  "Greeter.yaml": "turns:\n  - text: ['Hello, ', '{{prompt}}', '!']\n    delayMs: 20\n",
  "Asker.md": agentFile("Asker", "tools: [request_input]\n"),
  "Asker.yaml": `turns:
  - match: {toolResult: {tool: request_input, output: {regex: "answered: (?P<a>.*)"}}}
    text: "You chose {{a}}."
  - toolCalls: [{name: request_input, input: {question: "Which colour?"}}]
`,
  "Hang.md": agentFile("Hang"),
  "Hang.yaml": "turns:\n  - text: [Wait]\n    error: hang\n",
  "agents.json": '{"default": "Greeter"}',
};

let shaman: Shaman;
let org: TestOrg;
beforeAll(async () => {
  shaman = await startShaman();
  org = await shaman.givenOrg(FILES);
});
afterAll(() => shaman.close());

/** A client as the SDK makes it from a card's address; only names ending in .localhost are looked up here. */
const clientFor = (baseUrl: string, apiKey: string): Promise<Client> => {
  const fetchImpl: typeof fetch = async (input, init) => {
    const url = new URL(input instanceof Request ? input.url : input);
    const answer = await request(`${shaman.publicUrl}${url.pathname}${url.search}`, {
      method: init?.method === "POST" ? "POST" : "GET",
      headers: { ...Object.fromEntries(new Headers(init?.headers)), host: url.host, authorization: `Bearer ${apiKey}` },
      body: typeof init?.body === "string" ? init.body : null,
    });
    const type = answer.headers["content-type"];
    return new Response(Readable.toWeb(answer.body), {
      status: answer.statusCode,
      headers: typeof type === "string" ? { "content-type": type } : {},
    });
  };
  const factory = new ClientFactory({
    transports: [new JsonRpcTransportFactory({ fetchImpl })],
    cardResolver: new DefaultAgentCardResolver({ fetchImpl }),
  });
  return factory.createFromUrl(baseUrl);
};

const agentClient = (agent: string): Promise<Client> =>
  clientFor(`http://${org.host}/a2a/v1/agents/${agent}/`, org.apiKey);

const said = (text: string, fields: Partial<Message> = {}) => ({
  tenant: "",
  message: {
    messageId: crypto.randomUUID(),
    contextId: "",
    taskId: "",
    role: Role.ROLE_USER,
    parts: [{ content: { $case: "text" as const, value: text }, metadata: undefined, filename: "", mediaType: "" }],
    metadata: undefined,
    extensions: [],
    referenceTaskIds: [],
    ...fields,
  },
  configuration: undefined,
  metadata: undefined,
});

const asTask = (answer: Task | Message): Task => {
  if ("artifacts" in answer) return answer;
  throw new Error("expected a Task");
};

const textOf = (task: Task): string =>
  task.artifacts
    .map(({ parts }) => parts.map(({ content }) => (content?.$case === "text" ? content.value : "")).join("|"))
    .join("\n");

describe("the official SDK's client", () => {
  it("finds the default agent by the organization's address and its card by the well-known path", async () => {
    const client = await clientFor(`http://${org.host}`, org.apiKey);
    expect(await client.getAgentCard()).toMatchObject({ name: "Greeter", capabilities: { streaming: true } });
    expect(client.protocolVersion).toBe("1.0");
    const task = asTask(await client.sendMessage(said("Ada")));
    expect(task.status?.state).toBe(TaskState.TASK_STATE_COMPLETED);
    expect(textOf(task)).toBe("Hello, Ada!");
  });

  it("follows a stream to its end, and gets the same task afterwards", async () => {
    const client = await agentClient("Greeter");
    const kinds: string[] = [];
    let id = "";
    for await (const { payload } of client.sendMessageStream(said("Grace"))) {
      kinds.push(payload?.$case ?? "nothing");
      if (payload?.$case === "task") id = payload.value.id;
    }
    expect(kinds[0]).toBe("task");
    expect(kinds.at(-1)).toBe("statusUpdate");
    expect(kinds).toContain("artifactUpdate");
    const task = await client.getTask({ tenant: "", id, historyLength: 1 });
    expect(task).toMatchObject({ id, status: { state: TaskState.TASK_STATE_COMPLETED } });
    expect(textOf(task)).toBe("Hello, Grace!");
    expect(task.history).toHaveLength(1);
  });

  it("answers a question, blocking and streaming", async () => {
    const client = await agentClient("Asker");
    const first = asTask(await client.sendMessage(said("paint")));
    expect(first.status?.state).toBe(TaskState.TASK_STATE_INPUT_REQUIRED);
    const done = asTask(await client.sendMessage(said("green", { taskId: first.id, contextId: first.contextId })));
    expect(done.id).toBe(first.id);
    expect(textOf(done)).toBe("You chose green.");

    const second = asTask(await client.sendMessage(said("paint")));
    const states: (TaskState | undefined)[] = [];
    for await (const { payload } of client.sendMessageStream(
      said("red", { taskId: second.id, contextId: second.contextId }),
    )) {
      if (payload?.$case === "statusUpdate") states.push(payload.value.status?.state);
    }
    expect(states.at(-1)).toBe(TaskState.TASK_STATE_COMPLETED);
  });

  it("cancels a task that is at work, and reads our errors as the specification's", async () => {
    const client = await agentClient("Hang");
    const configuration = {
      acceptedOutputModes: [],
      taskPushNotificationConfig: undefined,
      historyLength: undefined,
      returnImmediately: true,
    };
    const { id } = asTask(await client.sendMessage({ ...said("x"), configuration }));
    const canceled = await client.cancelTask({ tenant: "", id, metadata: undefined });
    expect(canceled.status?.state).toBe(TaskState.TASK_STATE_CANCELED);
    await expect(client.cancelTask({ tenant: "", id, metadata: undefined })).rejects.toMatchObject({
      name: "TaskNotCancelableError",
    });
    await expect(client.getTask({ tenant: "", id: "task_none", historyLength: undefined })).rejects.toMatchObject({
      name: "TaskNotFoundError",
    });
  });
});
