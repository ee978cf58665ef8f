import { randomBytes } from "node:crypto";
import { systemClock, unwrap } from "@shaman/kernel";
import { authorizeClient, beginAuthorization, type OauthClient, type OauthState } from "@shaman/mcp";
import { Option, type Command } from "commander";
import { z } from "zod";
import type { Cli } from "./cli.ts";
import { usageError } from "./command.ts";
import { readSecret, secretFromVariable } from "./io.ts";
import { openOauthCallback } from "./oauth-callback.ts";

const BROWSER_TIMEOUT_MS = 300_000;

/** The options of every command that authorizes at an MCP server's authorization server. */
export const oauthOptions = (command: Command): Command =>
  command
    .addOption(new Option("--client-credentials", "authorize as a client without a person; needs --client-id"))
    .addOption(new Option("--client-id <id>", "the OAuth client (default: Shaman registers itself)"))
    .addOption(new Option("--client-secret", "ask for the client's secret, or read it from standard input"))
    .addOption(new Option("--client-secret-from-env <variable>", "take the client's secret from this variable"))
    .addOption(new Option("--scope <scope>", "what to ask the authorization server for"));

export const oauthInput = z.object({
  clientCredentials: z.boolean().default(false),
  clientId: z.string().optional(),
  clientSecret: z.boolean().default(false),
  clientSecretFromEnv: z.string().optional(),
  scope: z.string().optional(),
});
type OauthInput = z.infer<typeof oauthInput>;

/** The client that the options name. */
export const givenClient = async (cli: Cli, given: OauthInput): Promise<OauthClient | undefined> => {
  const { clientId, clientSecret, clientSecretFromEnv } = given;
  if (clientId === undefined) return undefined;
  if (clientSecretFromEnv !== undefined) return { id: clientId, secret: secretFromVariable(cli, clientSecretFromEnv) };
  if (!clientSecret) return { id: clientId };
  return { id: clientId, secret: await readSecret(cli.io, `Secret of the client ${clientId}, not shown: `) };
};

export type Authorization = {
  readonly url: string;
  readonly grant: OauthState["grant"];
  readonly client?: OauthClient | undefined;
  readonly scope?: string | undefined;
};

/** Gets an authorization for the MCP server at `url`: by a person in a browser on this machine, or by a client's secret. */
export const authorize = async (cli: Cli, { url, grant, client, scope }: Authorization): Promise<OauthState> => {
  const deps = { fetch: cli.outbound().fetch, clock: systemClock };
  const asked = { serverUrl: url, ...(scope !== undefined && { scope }) };
  if (grant === "client_credentials") {
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
