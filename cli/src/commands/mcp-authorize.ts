import { unwrap } from "@shaman/kernel";
import { getMcpAuthorization, replaceMcpAuthorization } from "@shaman/mcp";
import { Option, type Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption } from "../command.ts";
import { authorize, givenClient, oauthInput, oauthOptions } from "../mcp-authorization.ts";
import { lookAtMcpServer } from "../mcp-look.ts";
import { describeLook } from "../mcp-text.ts";
import { seconds } from "../time.ts";

export const mcpAuthorize = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "authorize <name>",
    about: "authorize again at an MCP server whose authorization has expired or was revoked; approvals stay",
    options: (command) =>
      oauthOptions(orgOption(command)).addOption(
        new Option("--timeout <span>", "how long to wait for the server").default("10s"),
      ),
    input: z.object({ name: z.string(), timeout: seconds, ...oauthInput.shape }),
    run: async ({ org, name, timeout, ...given }, show) => {
      const organization = await cli.organization(org);
      const principal = cli.operatorOf(organization);
      const deps = { db: cli.db(), origin: cli.origin, secretKeys: cli.secretKeys() };
      const known = unwrap(await getMcpAuthorization(deps, principal, { name }));
      const state = await authorize(cli, {
        url: known.url,
        grant: given.clientCredentials ? "client_credentials" : known.grant,
        client: (await givenClient(cli, given)) ?? known.client,
        scope: given.scope ?? known.scope,
      });
      const { serverId } = unwrap(await replaceMcpAuthorization(deps, principal, { name, state }));
      const look = await lookAtMcpServer(cli, organization, { name, timeoutMs: timeout * 1_000 });
      const text = `Authorized ${name}${look.available ? ".\n\n" : ", but it cannot be used now.\n"}${describeLook(look)}`;
      show({ json: { id: serverId, name, ...look }, text });
    },
  });
