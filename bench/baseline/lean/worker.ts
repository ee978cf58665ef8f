import { Pool as HttpPool } from "undici";
import { z } from "zod";
import { readLeanEnvironment } from "./environment.ts";
import { serveQueue } from "./queue.ts";
import { openFinish } from "./results.ts";
import { openPool, openTasks } from "./tasks.ts";
import { importTokenKey, mintToken } from "./token.ts";

/** The worker of the lean path: token, hop, one update, result on its way. */
const environment = readLeanEnvironment(process.env);
const key = await importTokenKey(environment.jwtKey);
const internal = new HttpPool(environment.internalUrl, { connections: 64, keepAliveTimeout: 60_000 });
const finish = openFinish(environment.redisUrl, openTasks(openPool(environment.databaseUrl, 8)));
const answerSchema = z.object({ answer: z.string() });

const runAgent = async (taskId: string, prompt: string): Promise<string> => {
  const token = await mintToken(key, taskId);
  const { statusCode, body } = await internal.request({
    method: "POST",
    path: "/run",
    headers: { "content-type": "application/json", authorization: `Bearer ${token}` },
    body: JSON.stringify({ prompt }),
  });
  const text = await body.text();
  if (statusCode !== 200) throw new Error(`internal answered ${statusCode}`);
  return answerSchema.parse(JSON.parse(text)).answer;
};

await serveQueue(environment, async ({ data }) => {
  const answer = await runAgent(data.taskId, data.prompt);
  await finish({ taskId: data.taskId, answer, replyTo: data.replyTo });
});
console.log("ready worker");
