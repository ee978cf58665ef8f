import { Redis } from "ioredis";
import { Client, type Pool } from "pg";
import { z } from "zod";

/** A result on its way back to the public process that waits for it. */
export type LeanResult = { readonly taskId: string; readonly answer: string };

const resultSchema = z.object({ taskId: z.string(), answer: z.string() });

type Receive = (result: LeanResult) => void;

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

/** The answering side. On PostgreSQL a NOTIFY of its own: inside the update's transaction it would serialize commits. */
export const openResults = (
  redisUrl: string | null,
  pool: Pool,
): ((channel: string, result: LeanResult) => Promise<unknown>) => {
  if (redisUrl !== null) {
    const redis = new Redis(redisUrl, { enableAutoPipelining: true });
    return (channel, result) => redis.publish(channel, JSON.stringify(result));
  }
  return (channel, result) =>
    pool.query({
      name: "notify-result",
      text: "select pg_notify($1, $2)",
      values: [channel, JSON.stringify(result)],
    });
};
