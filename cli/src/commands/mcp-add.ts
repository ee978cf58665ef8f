import { randomBytes } from "node:crypto";
import { systemClock, unwrap, type Secret } from "@shaman/kernel";
import {
  authorizeClient,
  beginAuthorization,
  MCP_TRANSPORTS,
  registerMcpServer,
  type OauthState,
  type RegisterMcpServerInput,
} from "@shaman/mcp";
import { Option, type Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption, usageError } from "../command.ts";
import { readSecret, secretFromVariable } from "../io.ts";
import { lookAtMcpServer } from "../mcp-look.ts";
import { describeLook } from "../mcp-text.ts";
import { openOauthCallback } from "../oauth-callback.ts";
import { seconds } from "../time.ts";

const BROWSER_TIMEOUT_MS = 300_000;

const input = z.object({
  name: z.string(),
  url: z.string(),
  transport: z.enum(MCP_TRANSPORTS),
  stateless: z.boolean().default(false),
  header: z.string().optional(),
  headerFromEnv: z.array(z.string()).default([]),
  oauth: z.boolean().default(false),
  clientCredentials: z.boolean().default(false),
  clientId: z.string().optional(),
  clientSecret: z.boolean().default(false),
  clientSecretFromEnv: z.string().optional(),
  scope: z.string().optional(),
  timeout: seconds,
});
type Input = z.infer<typeof input>;

const options = (command: Command): unknown =>
  orgOption(command)
    .addOption(new Option("--transport <kind>", "how it speaks").choices(MCP_TRANSPORTS).default("streamable-http"))
    .addOption(new Option("--stateless", "runs may share one session: it keeps nothing between calls"))
    .addOption(new Option("--header <name>", "send this header; its value is asked for, or read from standard input"))
    .addOption(new Option("--header-from-env <name=variable...>", "send headers whose values are in variables"))
    .addOption(new Option("--oauth", "authorize in a browser (OAuth 2.1)"))
    .addOption(new Option("--client-credentials", "authorize as a client without a person; needs --client-id"))
    .addOption(new Option("--client-id <id>", "the OAuth client (default: Shaman registers itself)"))
    .addOption(new Option("--client-secret", "ask for the client's secret, or read it from standard input"))
    .addOption(new Option("--client-secret-from-env <variable>", "take the client's secret from this variable"))
    .addOption(new Option("--scope <scope>", "what to ask the authorization server for"))
    .addOption(new Option("--timeout <span>", "how long to wait for the server").default("10s"));

const headersOf = async (cli: Cli, given: Input): Promise<Record<string, Secret>> => {
  const headers: Record<string, Secret> = {};
  for (const pair of given.headerFromEnv) {
    const [name = "", variable = ""] = pair.split("=");
    if (variable === "") throw usageError("--header-from-env takes name=variable");
    headers[name] = secretFromVariable(cli, variable);
  }
  if (given.header !== undefined) {
    headers[given.header] = await readSecret(cli.io, `Value of the header ${given.header}, not shown: `);
  }
  return headers;
};

const clientOf = async (cli: Cli, given: Input): Promise<{ id: string; secret?: Secret } | undefined> => {
  const { clientId, clientSecret, clientSecretFromEnv } = given;
  if (clientId === undefined) return undefined;
  if (clientSecretFromEnv !== undefined) return { id: clientId, secret: secretFromVariable(cli, clientSecretFromEnv) };
  if (!clientSecret) return { id: clientId };
  return { id: clientId, secret: await readSecret(cli.io, `Secret of the client ${clientId}, not shown: `) };
};

const authorize = async (cli: Cli, given: Input): Promise<OauthState> => {
  const deps = { fetch: cli.outbound().fetch, clock: systemClock };
  const client = await clientOf(cli, given);
  const asked = { serverUrl: given.url, ...(given.scope !== undefined && { scope: given.scope }) };
  if (given.clientCredentials) {
    if (client?.secret === undefined) throw usageError("--client-credentials needs --client-id and its secret");
    return unwrap(await authorizeClient(deps, { ...asked, client }));
  }
  const callback = await openOauthCallback();
  try {
    const state = randomBytes(32).toString("base64url");
    const { redirectUrl } = callback;
    const begun = await beginAuthorization(deps, { ...asked, redirectUrl, state, ...(client && { client }) });
    const pending = unwrap(begun);
    cli.io.err(`Open this address in a browser on this machine, and allow the access:\n\n${pending.url}\n\n`);
    return unwrap(await pending.finish(await callback.code(state, BROWSER_TIMEOUT_MS)));
  } finally {
    await callback.close();
  }
};

const authOf = async (cli: Cli, given: Input): Promise<NonNullable<RegisterMcpServerInput["auth"]>> => {
  const hasHeaders = given.header !== undefined || given.headerFromEnv.length > 0;
  const ways = [hasHeaders, given.oauth, given.clientCredentials].filter(Boolean);
  if (ways.length > 1) throw usageError("choose one of headers, --oauth and --client-credentials");
  if (given.oauth || given.clientCredentials) return { kind: "oauth", state: await authorize(cli, given) };
  return hasHeaders ? { kind: "headers", headers: await headersOf(cli, given) } : { kind: "none" };
};

export const mcpAdd = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "add <name> <url>",
    about: "register an MCP server, and approve the tools that it offers now",
    options,
    input,
    run: async ({ org, ...given }, show) => {
      const organization = await cli.organization(org);
      const { name, url, transport, stateless, timeout } = given;
      const deps = {
        db: cli.db(),
        origin: cli.origin,
        secretKeys: cli.secretKeys(),
        checkUrl: cli.outbound().checkUrl,
      };
      const auth = await authOf(cli, given);
      const principal = cli.operatorOf(organization);
      const { serverId } = unwrap(await registerMcpServer(deps, principal, { name, url, transport, stateless, auth }));
      const look = await lookAtMcpServer(cli, organization, { name, timeoutMs: timeout * 1_000 });
      const later = `Registered ${name}, but it cannot be used now. The tools of its first answer will be approved.\n`;
      const done = `Registered ${name}. Agents may use these tools by mcpServers: {${name}: "*"} in their files:\n\n`;
      show({ json: { id: serverId, name, ...look }, text: (look.available ? done : later) + describeLook(look) });
    },
  });
