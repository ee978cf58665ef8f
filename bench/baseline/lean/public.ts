import { createHash } from "node:crypto";
import { newId } from "@shaman/kernel";
import fastify from "fastify";
import { z } from "zod";
import { readLeanEnvironment } from "./environment.ts";
import { openQueue } from "./queue.ts";
import { subscribeResults } from "./results.ts";
import { openPool, openTasks } from "./tasks.ts";

/** The public server of the lean path: key, one insert, one job, and the result as an A2A Task. */
const environment = readLeanEnvironment(process.env);
const sha256 = (text: string): string => createHash("sha256").update(text).digest("base64url");
const keys = new Set([sha256(environment.apiKey)]);
const tasks = openTasks(openPool(environment.databaseUrl, 8));
const queue = await openQueue(environment);
const replyTo = newId("evt");
const waiting = new Map<string, (answer: string) => void>();

await subscribeResults(environment, replyTo, ({ taskId, answer }) => {
  waiting.get(taskId)?.(answer);
  waiting.delete(taskId);
});

const sendMessageSchema = z.object({
  jsonrpc: z.literal("2.0"),
  id: z.union([z.string(), z.number()]),
  method: z.literal("SendMessage"),
  params: z.object({
    message: z.object({ messageId: z.string(), parts: z.array(z.object({ text: z.string() })).min(1) }),
  }),
});

const app = fastify({ logger: false, keepAliveTimeout: 120_000 });

app.post<{ Params: { "*": string } }>("/a2a/v1/agents/*", async (request, reply) => {
  const token = request.headers.authorization?.slice("Bearer ".length) ?? "";
  if (!keys.has(sha256(token))) return reply.code(401).send();
  const call = sendMessageSchema.parse(request.body);
  const { messageId, parts } = call.params.message;
  const prompt = parts[0]?.text ?? "";
  const taskId = newId("task");
  const contextId = newId("ctx");
  const { promise, resolve } = Promise.withResolvers<string>();
  waiting.set(taskId, resolve);
  await tasks.insert({ id: taskId, contextId, messageId, agent: request.params["*"], prompt });
  await queue.add({ taskId, prompt, replyTo });
  const answer = await promise;
  const artifacts = [{ artifactId: "answer", parts: [{ text: answer }] }];
  const status = { state: "TASK_STATE_COMPLETED", timestamp: new Date().toISOString() };
  reply.header("content-type", "application/json");
  return reply.send(
    JSON.stringify({ jsonrpc: "2.0", id: call.id, result: { task: { id: taskId, contextId, status, artifacts } } }),
  );
});

const address = await app.listen({ host: "127.0.0.1", port: environment.port });
console.log(`ready ${address}`);
