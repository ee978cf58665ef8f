import { Redis } from "ioredis";
import { Client } from "pg";
import { z } from "zod";
import type { LeanResult, Tasks } from "./tasks.ts";

const resultSchema = z.object({ taskId: z.string(), answer: z.string() });

type Receive = (result: z.infer<typeof resultSchema>) => void;

const receiveText = (text: string, receive: Receive): void => receive(resultSchema.parse(JSON.parse(text)));

/** The waiting side: one subscription a process, its channel named after the process. */
export const subscribeResults = async (
  stores: { readonly databaseUrl: string; readonly redisUrl: string | null },
  channel: string,
  receive: Receive,
): Promise<void> => {
  if (stores.redisUrl !== null) {
    const redis = new Redis(stores.redisUrl);
    redis.on("message", (_channel: string, text: string) => receiveText(text, receive));
    await redis.subscribe(channel);
    return;
  }
  const client = new Client({ connectionString: stores.databaseUrl, keepAlive: true });
  await client.connect();
  client.on("notification", (notice) => receiveText(notice.payload ?? "", receive));
  await client.query(`listen ${client.escapeIdentifier(channel)}`);
};

/** The answering side: one update, then the result to who waits. On PostgreSQL both are one statement. */
export const openFinish = (redisUrl: string | null, tasks: Tasks): ((result: LeanResult) => Promise<unknown>) => {
  if (redisUrl === null) return tasks.completeAndNotify;
  const redis = new Redis(redisUrl, { enableAutoPipelining: true });
  return async (result) => {
    await tasks.complete(result);
    await redis.publish(result.replyTo, JSON.stringify({ taskId: result.taskId, answer: result.answer }));
  };
};
