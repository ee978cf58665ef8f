import { defineConfig, readConfig } from "@shaman/config";
import type { Env } from "@shaman/config";
import type { Result } from "@shaman/kernel";
import { Secret } from "@shaman/kernel";
import { z } from "zod";

const localConfig = defineConfig(
  {
    DATABASE_URL: {
      schema: z
        .string()
        .regex(/^postgres(ql)?:\/\//, "must begin with postgres:// or postgresql://")
        .optional(),
      about: "PostgreSQL to use instead of the built-in one, as a role that owns the database and may create roles",
    },
    REDIS_URL: {
      schema: z
        .string()
        .regex(/^rediss?:\/\//, "must begin with redis:// or rediss://")
        .optional(),
      about: "Redis for queue, fan-out and limits instead of PostgreSQL",
    },
  },
  (values) => ({
    databaseUrl: values.DATABASE_URL === undefined ? undefined : new Secret(values.DATABASE_URL),
    redisUrl: values.REDIS_URL,
  }),
);

export const readers = { local: localConfig };

export type LocalConfig = {
  readonly databaseUrl: Secret | undefined;
  readonly redisUrl: string | undefined;
};

/** What `npm start` was told by the environment, and all of it for the processes that it starts. */
export const readLocalConfig = (): { readonly config: Result<LocalConfig, readonly string[]>; readonly env: Env } => {
  const { env } = process;
  const read = readConfig(readers, env);
  return { config: read.ok ? { ok: true, value: read.value.local } : read, env };
};
