import { resolve } from "node:path";

import { defineConfig } from "@shaman/config";
import { z } from "zod";

const UNSANDBOXED = "i-understand-tenants-share-this-machine";

const count = (preset: number) => z.coerce.number("must be a number").int().min(1).max(10_000).default(preset);

/** Stdio MCP servers: which there are, and how they may be run. */
export const stdioConfig = defineConfig(
  {
    MCP_CATALOGUE: {
      schema: z.string().optional(),
      about: "YAML file of the stdio MCP servers that agents may use; none by default",
    },
    MCP_CATALOGUE_SECRETS: {
      schema: z.string().optional(),
      about: "YAML file of values that the catalogue's `environment` names; readable by this process only",
    },
    MCP_STDIO_UNSANDBOXED: {
      schema: z.literal(UNSANDBOXED, { error: `must be ${UNSANDBOXED}, or absent` }).optional(),
      about: "runs stdio MCP servers without bubblewrap, where tenants' tools see every file this process sees",
    },
    MCP_STDIO_MAX_SERVERS: { schema: count(64), about: "stdio MCP servers running at once in this process" },
    MCP_STDIO_MAX_SERVERS_PER_ORGANIZATION: { schema: count(16), about: "of these, for one organization" },
  },
  (values) => ({
    cataloguePath: values.MCP_CATALOGUE === undefined ? undefined : resolve(values.MCP_CATALOGUE),
    secretsPath: values.MCP_CATALOGUE_SECRETS === undefined ? undefined : resolve(values.MCP_CATALOGUE_SECRETS),
    unsandboxed: values.MCP_STDIO_UNSANDBOXED !== undefined,
    maxServers: values.MCP_STDIO_MAX_SERVERS,
    maxServersPerOrganization: values.MCP_STDIO_MAX_SERVERS_PER_ORGANIZATION,
  }),
);

type Read<R> = R extends { readonly read: (env: never) => infer Result }
  ? Extract<Result, { readonly ok: true }>
  : never;

export type StdioConfig = Read<typeof stdioConfig>["value"];
