import { once } from "node:events";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { AgentCard, Artifact, Task, TaskState, type Message } from "@a2a-js/sdk";
import { AgentEvent, DefaultRequestHandler, type AgentExecutor, type ExecutionEventBus } from "@a2a-js/sdk/server";
import { DatabaseTaskStore } from "@a2a-js/sdk/server/database";
import { jsonRpcHandler, UserBuilder } from "@a2a-js/sdk/server/express";
import { defineConfig, readConfig } from "@shaman/config";
import express from "express";
import { Kysely, PostgresDialect } from "kysely";
import { Pool } from "pg";
import { z } from "zod";

/** The official SDK as its documentation puts it together: Express, its default handler, its database task store. */
const reader = defineConfig(
  {
    PORT: { schema: z.coerce.number().int(), about: "where the server listens" },
    DATABASE_URL: { schema: z.string().min(1), about: "the database of the task store" },
  },
  (values) => ({ port: values.PORT, databaseUrl: values.DATABASE_URL }),
);
const configuration = readConfig({ sdk: reader }, process.env);
if (!configuration.ok) throw new Error(configuration.error.join("\n"));
const { port, databaseUrl } = configuration.value.sdk;

const STREAM = /^stream (\d+) chunks (\d+) ms apart\.$/;

const artifactOf = (text: string): Artifact => Artifact.fromJSON({ artifactId: "answer", parts: [{ text }] });

const promptOf = (message: Message): string => {
  const content = message.parts[0]?.content;
  return content?.$case === "text" ? content.value : "";
};

type Ids = { readonly taskId: string; readonly contextId: string };

const publishText = (
  bus: ExecutionEventBus,
  ids: Ids,
  chunk: { text: string; append: boolean; last: boolean },
): void => {
  const { text, append, last } = chunk;
  bus.publish(
    AgentEvent.artifactUpdate({ ...ids, artifact: artifactOf(text), append, lastChunk: last, metadata: undefined }),
  );
};

const executor: AgentExecutor = {
  execute: async ({ userMessage, taskId, contextId, task }, bus) => {
    const ids = { taskId, contextId };
    const status = (state: TaskState) => ({ state, message: undefined, timestamp: new Date().toISOString() });
    bus.publish(
      AgentEvent.task(
        task ?? {
          ...Task.fromJSON({ id: taskId, contextId, history: [] }),
          status: status(TaskState.TASK_STATE_SUBMITTED),
          history: [userMessage],
        },
      ),
    );
    const prompt = promptOf(userMessage);
    const stream = STREAM.exec(prompt);
    if (stream === null) publishText(bus, ids, { text: `Done: ${prompt}`, append: false, last: true });
    const chunks = Number(stream?.[1] ?? 0);
    const delayMs = Number(stream?.[2] ?? 0);
    for (let index = 0; index < chunks; index += 1) {
      if (delayMs > 0) await sleep(delayMs);
      publishText(bus, ids, { text: "another word ", append: index > 0, last: index === chunks - 1 });
    }
    bus.publish(
      AgentEvent.statusUpdate({ ...ids, status: status(TaskState.TASK_STATE_COMPLETED), metadata: undefined }),
    );
    bus.finished();
  },
  cancelTask: () => Promise.resolve(),
};

const origin = `http://127.0.0.1:${port}`;
const path = "/a2a/v1/agents/Echo";
const card = AgentCard.fromJSON({
  name: "Echo",
  description: "Answers at once",
  version: "1.0.0",
  supportedInterfaces: [{ url: `${origin}${path}`, protocolBinding: "JSONRPC", protocolVersion: "1.0" }],
  capabilities: { streaming: true },
  defaultInputModes: ["text/plain"],
  defaultOutputModes: ["text/plain"],
  skills: [{ id: "echo", name: "Echo", description: "Answers at once", tags: ["echo"] }],
});

const pool = new Pool({ connectionString: databaseUrl, max: 10, idleTimeoutMillis: 0 });
const store = new DatabaseTaskStore(new Kysely({ dialect: new PostgresDialect({ pool }) }));
const requestHandler = new DefaultRequestHandler(card, store, executor);
const app = express();
app.use(path, jsonRpcHandler({ requestHandler, userBuilder: UserBuilder.noAuthentication }));
const server = createServer(app).listen(port, "127.0.0.1");
await once(server, "listening");
console.log(`ready ${origin}`);
