import { unwrap, type Secret } from "@shaman/kernel";
import { MCP_TRANSPORTS, registerMcpServer, type RegisterMcpServerInput } from "@shaman/mcp";
import { Option, type Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption, usageError } from "../command.ts";
import { readSecret, secretFromVariable } from "../io.ts";
import { authorize, givenClient, oauthInput, oauthOptions } from "../mcp-authorization.ts";
import { lookAtMcpServer } from "../mcp-look.ts";
import { describeLook } from "../mcp-text.ts";
import { seconds } from "../time.ts";

const input = z.object({
  name: z.string(),
  url: z.string(),
  transport: z.enum(MCP_TRANSPORTS),
  stateless: z.boolean().default(false),
  header: z.string().optional(),
  headerFromEnv: z.array(z.string()).default([]),
  oauth: z.boolean().default(false),
  ...oauthInput.shape,
  timeout: seconds,
});
type Input = z.infer<typeof input>;

const options = (command: Command): unknown =>
  oauthOptions(
    orgOption(command)
      .addOption(new Option("--transport <kind>", "how it speaks").choices(MCP_TRANSPORTS).default("streamable-http"))
      .addOption(new Option("--stateless", "runs may share one session: it keeps nothing between calls"))
      .addOption(new Option("--header <name>", "send this header; its value is asked for, or read from standard input"))
      .addOption(new Option("--header-from-env <name=variable...>", "send headers whose values are in variables"))
      .addOption(new Option("--oauth", "authorize in a browser (OAuth 2.1)")),
  ).addOption(new Option("--timeout <span>", "how long to wait for the server").default("10s"));

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

const authOf = async (cli: Cli, given: Input): Promise<NonNullable<RegisterMcpServerInput["auth"]>> => {
  const hasHeaders = given.header !== undefined || given.headerFromEnv.length > 0;
  const ways = [hasHeaders, given.oauth, given.clientCredentials].filter(Boolean);
  if (ways.length > 1) throw usageError("choose one of headers, --oauth and --client-credentials");
  if (given.oauth || given.clientCredentials) {
    const { url, scope, clientCredentials } = given;
    const grant = clientCredentials ? "client_credentials" : "authorization_code";
    return { kind: "oauth", state: await authorize(cli, { url, scope, grant, client: await givenClient(cli, given) }) };
  }
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
