import type { Principal } from "@shaman/access";
import { AppError, err, ok, type Result } from "@shaman/kernel";
import type { Organization, OrganizationSettings } from "@shaman/tenancy";
import type { Redis } from "ioredis";
import { BurstyRateLimiter, RateLimiterMemory, RateLimiterRedis, RateLimiterRes } from "rate-limiter-flexible";
import { LRUCache } from "lru-cache";

export type RateLimits = {
  /** Counts one request of the key and of its organization. Error: `too_many_requests`, saying when to come back. */
  readonly consume: (organization: Organization, principal: Principal) => Promise<Result<null>>;
};

const BURST_SECONDS = 10;
const MAX_LIMITERS = 10_000;

/**
 * Rates per key and per organization, with room for a short burst: in memory of this process, or on Redis over all of
 * them. While Redis is away each process counts for itself, so that no request goes uncounted.
 */
export const createRateLimits = (redis: Redis | undefined): RateLimits => {
  const limiters = new LRUCache<string, BurstyRateLimiter>({ max: MAX_LIMITERS });

  const limiterOf = (rate: number, burstFactor: number): BurstyRateLimiter => {
    const name = `${rate}x${burstFactor}`;
    const known = limiters.get(name);
    if (known !== undefined) return known;
    const make = (keyPrefix: string, points: number, duration: number) => {
      const options = { keyPrefix: `shaman:${keyPrefix}:${name}`, points, duration };
      if (redis === undefined) return new RateLimiterMemory(options);
      return new RateLimiterRedis({ ...options, storeClient: redis, insuranceLimiter: new RateLimiterMemory(options) });
    };
    const extra = Math.max(0, Math.round(rate * (burstFactor - 1)));
    const limiter = new BurstyRateLimiter(make("rate", rate, 1), make("burst", extra, BURST_SECONDS));
    limiters.set(name, limiter);
    return limiter;
  };

  const consumeOne = async (limit: {
    readonly of: string;
    readonly rate: number;
    readonly burst: number;
  }): Promise<Result<null>> => {
    if (limit.rate === 0) return ok(null);
    try {
      await limiterOf(limit.rate, limit.burst).consume(limit.of);
      return ok(null);
    } catch (refused) {
      if (!(refused instanceof RateLimiterRes)) throw refused;
      return err(tooManyRequests(Math.max(1_000, refused.msBeforeNext)));
    }
  };

  return {
    consume: async ({ id, settings }, principal) => {
      // A key without a limit of its own is trusted with the organization's too.
      if (principal.ratePerSecond === 0) return ok(null);
      const { intake }: OrganizationSettings = settings;
      const rate = principal.ratePerSecond ?? intake.keyRatePerSecond;
      const burst = intake.rateBurstFactor;
      const own = await consumeOne({ of: `key:${principal.apiKeyId ?? principal.id}`, rate, burst });
      if (!own.ok) return own;
      return consumeOne({ of: `org:${id}`, rate: intake.organizationRatePerSecond, burst });
    },
  };
};

/** The caller must wait; `retryAfterMs` becomes the Retry-After header. */
export const tooManyRequests = (retryAfterMs: number, message = "Too many requests."): AppError =>
  new AppError({
    code: "too_many_requests",
    kind: "user",
    message: `${message} Try again in ${Math.ceil(retryAfterMs / 1_000)} s.`,
    retryAfterMs,
  });
