import { defineConfig, readConfig, type Env } from "@shaman/config";
import { z } from "zod";

/** What the three processes of the lean path are told: where the stores are, where each listens, one key. */
export type LeanEnvironment = {
  readonly port: number;
  readonly databaseUrl: string;
  /** Absent: BullMQ and the way back of results run on PostgreSQL. */
  readonly redisUrl: string | null;
  readonly internalUrl: string;
  /** 32 bytes, base64url, shared by worker and internal. */
  readonly jwtKey: string;
  /** The one API key that callers send. */
  readonly apiKey: string;
};

const lean = defineConfig(
  {
    PORT: { schema: z.coerce.number().int().min(0).default(0), about: "where the process listens" },
    DATABASE_URL: { schema: z.string().min(1), about: "the lean path's own database" },
    REDIS_URL: { schema: z.string().optional(), about: "BullMQ on Redis when given" },
    INTERNAL_URL: { schema: z.string().default(""), about: "the internal server, for the worker" },
    LEAN_JWT_KEY: { schema: z.string().default(""), about: "key of the internal tokens" },
    LEAN_API_KEY: { schema: z.string().default(""), about: "the key that callers send" },
  },
  (values): LeanEnvironment => ({
    port: values.PORT,
    databaseUrl: values.DATABASE_URL,
    redisUrl: values.REDIS_URL ?? null,
    internalUrl: values.INTERNAL_URL,
    jwtKey: values.LEAN_JWT_KEY,
    apiKey: values.LEAN_API_KEY,
  }),
);

/** Reads the environment; throws one error that lists every problem. */
export const readLeanEnvironment = (env: Env): LeanEnvironment => {
  const result = readConfig({ lean }, env);
  if (!result.ok) throw new Error(result.error.join("\n"));
  return result.value.lean;
};
