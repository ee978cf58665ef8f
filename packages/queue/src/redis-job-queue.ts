import type { Secret } from "@shaman/kernel";
import { createRedisBackend } from "bullmq";
import type { Redis } from "ioredis";
import { setImmediate } from "node:timers/promises";
import { createJobQueue, WORKER_OPTIONS, type JobQueue, type JobQueueOptions } from "./job-queue.ts";
import { openRedis } from "./redis.ts";
import { fromTold, toTold } from "./wake-up.ts";

/** Its messages are the organization's id, or a lone wake-up. */
const ADDED_CHANNEL = "shaman_jobs";

/** BullMQ on Redis, all queues over one connection. */
export const createRedisJobQueue = (options: JobQueueOptions & { readonly url: Secret }): JobQueue => {
  const open = (suffix: string, patient: boolean): Redis =>
    openRedis({ url: options.url, name: `${options.name}-${suffix}`, patient, onError: options.onError });
  const redis = open("queue", options.takes);
  let subscriber: Redis | undefined;
  const root = createRedisBackend("root", { connection: redis, ...WORKER_OPTIONS }, { withBlockingConnection: false });
  root.on("error", options.onError);
  return createJobQueue(options, {
    factory: (name) => root.forQueue(name),
    announce: async (orgId, { lone, added }) => {
      // BullMQ sends an add within the turn that asks for it, unless there is no connection yet.
      const isConnected = redis.status === "ready";
      await (isConnected ? setImmediate() : added.catch(() => undefined));
      await redis.publish(ADDED_CHANNEL, lone === undefined ? orgId : toTold(lone)).catch(() => undefined);
    },
    listen: async ({ onAdded, onTold }) => {
      subscriber = open("jobs", true);
      subscriber.on("message", (_channel: string, text: string) => {
        if (!text.startsWith("{")) return onAdded(text);
        const lone = fromTold(text);
        if (lone !== undefined) onTold(lone);
      });
      await subscriber.subscribe(ADDED_CHANNEL);
    },
    close: async () => {
      subscriber?.disconnect();
      await root.close();
      redis.disconnect();
    },
  });
};
