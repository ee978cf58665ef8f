import { AppError, type Secret } from "@shaman/kernel";
import { Redis } from "ioredis";

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
  const redis = new Redis(input.url.reveal(), {
    connectionName: input.name,
    enableOfflineQueue: input.patient,
    // What one turn of the event loop asks for leaves in one packet.
    enableAutoPipelining: true,
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
