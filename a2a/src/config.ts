import { internalJwtConfig, noInternalJwtConfig } from "@shaman/access";
import { defineConfig, readConfig } from "@shaman/config";
import { databaseConfig } from "@shaman/db";
import { outboundConfig } from "@shaman/outbound";
import { redisConfig } from "@shaman/queue";
import { secretsConfig } from "@shaman/secrets";
import { downloadKeysConfig, storageConfig } from "@shaman/storage";
import { logConfig } from "@shaman/telemetry";
import { tenancyConfig } from "@shaman/tenancy";
import { mcpConfig, stdioConfig } from "@shaman/tools";
import { z } from "zod";

const proxyConfig = defineConfig(
  {
    TRUSTED_PROXIES: {
      schema: z
        .string()
        .default("")
        .transform((text) =>
          text
            .split(",")
            .map((entry) => entry.trim())
            .filter((entry) => entry !== ""),
        ),
      about: "addresses or CIDR ranges, separated by commas, whose X-Forwarded-For counts",
    },
  },
  (env) => ({ trusted: env.TRUSTED_PROXIES }),
);

const serverConfig = defineConfig(
  {
    LISTEN_HOST: {
      schema: z.string().min(1).default("127.0.0.1"),
      about: "address to listen on; 0.0.0.0 in a container, and never the internal server on a public one",
    },
    SHUTDOWN_GRACE_MS: {
      schema: z.coerce.number("must be a number").int().min(0).max(3_600_000).default(10_000),
      about: "how long a stopping process lets what is under way finish",
    },
  },
  (env) => ({ host: env.LISTEN_HOST, shutdownGraceMs: env.SHUTDOWN_GRACE_MS }),
);

const callsConfig = defineConfig(
  {
    INTERNAL_URL: {
      schema: z.url("must be a URL such as http://127.0.0.1:5001").default("http://127.0.0.1:5001"),
      about: "where worker and internal server find the internal server",
    },
  },
  (env) => ({ url: env.INTERNAL_URL }),
);

/** What both roles read. */
const common = { server: serverConfig, database: databaseConfig, redis: redisConfig, log: logConfig };

/** The public server holds no key that could mint an internal token, and refuses to start with one. */
export const publicReaders = {
  ...common,
  tenancy: tenancyConfig,
  proxy: proxyConfig,
  noJwt: noInternalJwtConfig,
  storage: storageConfig,
  downloads: downloadKeysConfig,
};

export const internalReaders = {
  ...common,
  internal: callsConfig,
  jwt: internalJwtConfig,
  secrets: secretsConfig,
  outbound: outboundConfig,
  mcp: mcpConfig,
  stdio: stdioConfig,
};

/** Everything this app reads from its environment, in either role. */
export const readers = { ...publicReaders, ...internalReaders };

export const readPublicConfig = () => readConfig(publicReaders, process.env);
export const readInternalConfig = () => readConfig(internalReaders, process.env);
export type PublicConfig = Extract<ReturnType<typeof readPublicConfig>, { ok: true }>["value"];
export type InternalConfig = Extract<ReturnType<typeof readInternalConfig>, { ok: true }>["value"];
