import { AppError, type Secret } from "@shaman/kernel";
import { Redis } from "ioredis";
import type { Socket } from "node:net";

/**
 * The first command of a turn of the event loop leaves at once, for a lone caller waits for it; all others of the turn leave
 * in one packet. ioredis's own way to do that (enableAutoPipelining) makes an object of all its commands for each packet,
 * and lets a packet wait until the one before it is answered.
 */
class PacketRedis extends Redis {
  override sendCommand(...args: Parameters<Redis["sendCommand"]>): ReturnType<Redis["sendCommand"]> {
    const answer = super.sendCommand(...args);
    // There is none before it connects.
    const stream: Socket | undefined = this.stream;
    if (stream?.writableCorked === 0) {
      stream.cork();
      setImmediate(() => stream.uncork());
    }
    return answer;
  }
}

/**
 * A Redis connection for commands. A producer fails at once while Redis is away instead of piling commands up;
 * `patient` connections (workers) wait, since they have nothing better to do.
 */
export const openRedis = (input: {
  readonly url: Secret;
  readonly name: string;
  readonly patient: boolean;
  readonly onError: (error: Error) => void;
}): Redis => {
  const redis = new PacketRedis(input.url.reveal(), {
    connectionName: input.name,
    enableOfflineQueue: input.patient,
    maxRetriesPerRequest: null,
    connectTimeout: 5_000,
    retryStrategy: (attempt) => Math.min(100 * attempt, 2_000),
  });
  redis.on("error", input.onError);
  return redis;
};

/** Refuses a Redis that may throw queue entries away when it is full. */
export const assertNoEviction = async (redis: Redis): Promise<void> => {
  const answer = await redis.config("GET", "maxmemory-policy");
  const policy = Array.isArray(answer) ? answer[1] : undefined;
  if (policy === undefined || policy === "noeviction") return;
  throw new AppError({
    code: "redis_evicts",
    kind: "operational",
    message: `Redis has maxmemory-policy ${policy}, under which queued work can vanish. Set it to noeviction.`,
  });
};
