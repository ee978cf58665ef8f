import { defineConfig } from "@shaman/config";
import { Secret } from "@shaman/kernel";
import { z } from "zod";

/** Redis carries the queue and the nudges when it is configured; PostgreSQL does when it is not (null). */
export const redisConfig = defineConfig(
  {
    REDIS_URL: {
      schema: z
        .string()
        .regex(/^rediss?:\/\//, "must begin with redis:// or rediss://")
        .optional(),
      about: "Redis for queue and live updates; PostgreSQL does both when unset",
    },
  },
  (env) => (env.REDIS_URL === undefined ? null : { url: new Secret(env.REDIS_URL) }),
);
