import type { Secret } from "@shaman/kernel";
import { createRedisBackend } from "bullmq";
import type { Redis } from "ioredis";
import { setImmediate } from "node:timers/promises";
import { createJobQueue, WORKER_OPTIONS, type JobQueue, type JobQueueOptions } from "./job-queue.ts";
import { openRedis } from "./redis.ts";

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
    announce: async (orgId, added) => {
      // BullMQ sends an add within the turn that asks for it, unless there is no connection yet.
      const isConnected = redis.status === "ready";
      await (isConnected ? setImmediate() : added.catch(() => undefined));
      await redis.publish(ADDED_CHANNEL, orgId).catch(() => undefined);
    },
    onAdded: async (handler) => {
      subscriber = open("jobs", true);
      subscriber.on("message", (_channel: string, orgId: string) => handler(orgId));
      await subscriber.subscribe(ADDED_CHANNEL);
    },
    close: async () => {
      subscriber?.disconnect();
      await root.close();
      redis.disconnect();
    },
  });
};
