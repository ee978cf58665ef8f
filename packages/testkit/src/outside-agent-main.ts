import { once } from "node:events";
import { createServer } from "node:http";
import { AgentCard, Artifact, Message, Role, Task, TaskState } from "@a2a-js/sdk";
import {
  AgentEvent,
  DefaultRequestHandler,
  InMemoryTaskStore,
  type AgentExecutor,
  type ExecutionEventBus,
  type RequestContext,
} from "@a2a-js/sdk/server";
import { jsonRpcHandler, restHandler, UserBuilder } from "@a2a-js/sdk/server/express";
import express, { type RequestHandler } from "express";
import { outsideAgentOptions, type FromOutsideAgent } from "./outside-agent-protocol.ts";

/**
 * An agent of another organization, put together from the official SDK as its documentation does, in a process of its own
 * (`startOutsideAgent`). What it does stands in the message: `echo …`, `talk …`, `ask`, `login`, `fail`, `files`, and
 * `hold`, which goes on only when the test says so.
 */

const options = outsideAgentOptions.parse(JSON.parse(process.argv[2] ?? "{}"));
const tell = (message: FromOutsideAgent): void => void process.send?.(message);

const textOf = (message: Message): string =>
  message.parts.flatMap(({ content }) => (content?.$case === "text" ? [content.value] : [])).join(" ");

const released = new Map<string, PromiseWithResolvers<void>>();
const gate = (name: string): PromiseWithResolvers<void> => {
  const known = released.get(name) ?? Promise.withResolvers<void>();
  released.set(name, known);
  return known;
};
process.on("message", (name: string) => gate(name).resolve());
process.on("disconnect", () => process.exit(0));

type Ids = { readonly taskId: string; readonly contextId: string };

const say = (ids: Ids, text: string): Message =>
  Message.fromJSON({ ...ids, messageId: crypto.randomUUID(), role: "ROLE_AGENT", parts: [{ text }] });

const statusOf = (ids: Ids, state: TaskState, text?: string) => ({
  state,
  message: text === undefined ? undefined : say(ids, text),
  timestamp: new Date().toISOString(),
});

const moveTo = (bus: ExecutionEventBus, ids: Ids, state: TaskState, text?: string): void =>
  bus.publish(AgentEvent.statusUpdate({ ...ids, status: statusOf(ids, state, text), metadata: undefined }));

const write = (bus: ExecutionEventBus, ids: Ids, parts: readonly object[], append = false): void => {
  const artifact = Artifact.fromJSON({ artifactId: "answer", name: "answer.txt", parts });
  bus.publish(AgentEvent.artifactUpdate({ ...ids, artifact, append, lastChunk: append, metadata: undefined }));
};

const canceled = new Set<string>();

const answer = async (text: string, ids: Ids, bus: ExecutionEventBus, isFollowUp: boolean): Promise<void> => {
  const [word = "", ...rest] = text.split(" ");
  if (isFollowUp) {
    write(bus, ids, [{ text: `You said ${text}.` }]);
    return moveTo(bus, ids, TaskState.TASK_STATE_COMPLETED);
  }
  switch (word) {
    case "ask":
      return moveTo(bus, ids, TaskState.TASK_STATE_INPUT_REQUIRED, "Which order?");
    case "login":
      return moveTo(bus, ids, TaskState.TASK_STATE_AUTH_REQUIRED, "Log in first.");
    case "fail":
      return moveTo(bus, ids, TaskState.TASK_STATE_FAILED, "It did not work.");
    case "files":
      write(bus, ids, [{ raw: "aGk=", mediaType: "image/png", filename: "a.png" }, { data: { total: 7 } }]);
      return moveTo(bus, ids, TaskState.TASK_STATE_COMPLETED);
    case "hold":
      write(bus, ids, [{ text: "One moment" }]);
      await gate(rest[0] ?? "go").promise;
      if (canceled.has(ids.taskId)) return;
      write(bus, ids, [{ text: ", done." }], true);
      return moveTo(bus, ids, TaskState.TASK_STATE_COMPLETED);
    default:
      write(bus, ids, [{ text: "Echo: " }]);
      write(bus, ids, [{ text: rest.join(" ") }], true);
      return moveTo(bus, ids, TaskState.TASK_STATE_COMPLETED);
  }
};

const executor: AgentExecutor = {
  execute: async ({ userMessage, taskId, contextId, task }: RequestContext, bus) => {
    const ids = { taskId, contextId };
    const text = textOf(userMessage);
    if (text.startsWith("talk")) {
      bus.publish(AgentEvent.message({ ...say(ids, `Just ${text}.`), taskId: "", role: Role.ROLE_AGENT }));
      bus.finished();
      return;
    }
    const created = Task.fromJSON({ id: taskId, contextId, history: [] });
    const submitted = statusOf(ids, TaskState.TASK_STATE_SUBMITTED);
    bus.publish(AgentEvent.task(task ?? { ...created, status: submitted, history: [userMessage] }));
    moveTo(bus, ids, TaskState.TASK_STATE_WORKING);
    tell({ kind: "working", text, messageId: userMessage.messageId, taskId });
    await answer(text, ids, bus, task !== undefined);
    bus.finished();
  },
  cancelTask: async (taskId, bus) => {
    canceled.add(taskId);
    tell({ kind: "canceled", taskId });
    moveTo(bus, { taskId, contextId: "" }, TaskState.TASK_STATE_CANCELED);
  },
};

const { streaming, headers: needed, requiredExtension } = options;
const app = express();
const server = createServer(app).listen(0, "127.0.0.1");
await once(server, "listening");
const address = server.address();
if (address === null || typeof address === "string") throw new Error("The system gave no port");
const origin = `http://127.0.0.1:${address.port}`;

const INTERFACES = [
  { path: "/rpc", protocolBinding: "JSONRPC", protocolVersion: "1.0", cardName: "rpc" },
  { path: "/rest", protocolBinding: "HTTP+JSON", protocolVersion: "1.0", cardName: "rest" },
  { path: "/old-rpc", protocolBinding: "JSONRPC", protocolVersion: "0.3", cardName: "old-rpc" },
  { path: "/old-rest", protocolBinding: "HTTP+JSON", protocolVersion: "0.3", cardName: "old-rest" },
] as const;

const shared = {
  name: "Outside agent",
  description: "Does what the message says",
  version: "1.0.0",
  defaultInputModes: ["text/plain"],
  defaultOutputModes: ["text/plain"],
  skills: [{ id: "all", name: "All", description: "Does what the message says", tags: ["test"] }],
};
const extensions = requiredExtension === undefined ? [] : [{ uri: requiredExtension, required: true }];

const handlerCard = AgentCard.fromJSON({
  ...shared,
  capabilities: { streaming },
  supportedInterfaces: INTERFACES.map(({ path, ...rest }) => ({ url: `${origin}${path}`, ...rest })),
});
const requestHandler = new DefaultRequestHandler(handlerCard, new InMemoryTaskStore(), executor);
const forAll = { requestHandler, userBuilder: UserBuilder.noAuthentication };

const observe: RequestHandler = (request, response, next) => {
  tell({ kind: "request", method: request.method, path: request.originalUrl, headers: { ...request.headers } });
  const refused = Object.entries(needed).some(([name, value]) => request.headers[name] !== value);
  if (refused) response.status(401).set("www-authenticate", "Bearer").json({ error: "unauthenticated" });
  else next();
};

/** The card of one interface: 1.0's as 1.0 writes it, 0.3's as 0.3 did. */
for (const { path, protocolBinding, protocolVersion, cardName } of INTERFACES) {
  const url = `${origin}${path}`;
  const card =
    protocolVersion === "1.0"
      ? {
          ...shared,
          capabilities: { streaming, extensions },
          supportedInterfaces: [{ url, protocolBinding, protocolVersion }],
          ...options.card,
        }
      : {
          ...shared,
          protocolVersion: "0.3.0",
          url,
          preferredTransport: protocolBinding,
          capabilities: { streaming },
        };
  app.get(`/cards/${cardName}.json`, (_request, response) => void response.json(card));
}
app.use(observe);
app.use("/rpc", jsonRpcHandler(forAll));
app.use("/rest", restHandler(forAll));
app.use("/old-rpc", jsonRpcHandler({ ...forAll, legacyCompat: { enabled: true } }));
app.use("/old-rest", restHandler({ ...forAll, legacyCompat: { enabled: true } }));
tell({ kind: "ready", origin });
