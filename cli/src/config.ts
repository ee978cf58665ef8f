import { agentsConfig } from "@shaman/agents";
import { defineConfig, readConfig } from "@shaman/config";
import { Secret } from "@shaman/kernel";
import { outboundConfig } from "@shaman/outbound";
import { redisConfig } from "@shaman/queue";
import { storageConfig } from "@shaman/storage";
import { tenancyConfig } from "@shaman/tenancy";
import { z } from "zod";

const cliConfig = defineConfig(
  {
    DATABASE_URL: {
      schema: z
        .string()
        .regex(/^postgres(ql)?:\/\//, "must begin with postgres:// or postgresql://")
        .optional(),
      about: "PostgreSQL as the role shaman_web; found by itself beside a running `npm start`",
    },
    SHAMAN_SECRET_KEYS: {
      schema: z.string().optional(),
      about: "keys that seal stored secrets, for commands that store or use them",
    },
    DOWNLOAD_URL_KEYS: {
      schema: z.string().optional(),
      about: "keys that sign addresses of stored artifacts, for showing those addresses",
    },
    SHAMAN_ORG: {
      schema: z.string().optional(),
      about: "organization of the command line where --org is not given",
    },
  },
  (env) => ({
    databaseUrl: env.DATABASE_URL === undefined ? undefined : new Secret(env.DATABASE_URL),
    secretKeys: env.SHAMAN_SECRET_KEYS === undefined ? undefined : new Secret(env.SHAMAN_SECRET_KEYS),
    downloadUrlKeys: env.DOWNLOAD_URL_KEYS === undefined ? undefined : new Secret(env.DOWNLOAD_URL_KEYS),
    organization: env.SHAMAN_ORG,
  }),
);

export const readers = {
  cli: cliConfig,
  redis: redisConfig,
  outbound: outboundConfig,
  agents: agentsConfig,
  storage: storageConfig,
  tenancy: tenancyConfig,
};

export const readCliConfig = () => readConfig(readers, process.env);

export type CliConfig = Extract<ReturnType<typeof readCliConfig>, { ok: true }>["value"];

/** A variable that the user named on the command line, so that a secret need not stand there itself. */
export const variable = (name: string): string | undefined => process.env[name];
