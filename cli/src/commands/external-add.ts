import { readFile } from "node:fs/promises";
import { addExternalAgent, type AddExternalAgentInput, type CredentialInput } from "@shaman/external";
import { unwrap, type Secret } from "@shaman/kernel";
import { Option, type Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption, usageError } from "../command.ts";
import { readSecret, secretFromVariable } from "../io.ts";
import { safe } from "../run-text.ts";

const input = z.object({
  name: z.string(),
  url: z.string(),
  apiKey: z.boolean().default(false),
  header: z.string().optional(),
  bearer: z.boolean().default(false),
  clientId: z.string().optional(),
  tokenUrl: z.string().optional(),
  scope: z.array(z.string()).optional(),
  clientAuth: z.enum(["basic", "body"]).default("basic"),
  fromEnv: z.string().optional(),
  repeatable: z.boolean().default(false),
  signed: z.boolean().default(false),
  signedBy: z.string().optional(),
  replace: z.boolean().default(false),
});
type Input = z.output<typeof input>;

const readCredential = async (cli: Cli, given: Input): Promise<CredentialInput | undefined> => {
  const { apiKey, bearer, clientId, header, tokenUrl, scope, clientAuth, fromEnv, name } = given;
  const ways = [apiKey, bearer, clientId !== undefined].filter(Boolean).length;
  if (ways > 1) throw usageError("--api-key, --bearer and --client-id exclude each other");
  if (header !== undefined && !apiKey) throw usageError("--header goes with --api-key");
  if (ways === 0 && fromEnv !== undefined) {
    throw usageError("--from-env needs --api-key, --bearer or --client-id to say what it holds");
  }
  if (ways === 0) return undefined;
  const ask = (what: string): Promise<Secret> =>
    fromEnv === undefined
      ? readSecret(cli.io, `${what} for ${name}, not shown: `)
      : Promise.resolve(secretFromVariable(cli, fromEnv));
  if (apiKey) return { kind: "apiKey", key: await ask("API key"), ...(header !== undefined && { header }) };
  if (clientId === undefined) return { kind: "bearer", token: await ask("Token") };
  return {
    kind: "clientCredentials",
    clientId,
    clientSecret: await ask("Client secret"),
    authentication: clientAuth,
    ...(tokenUrl !== undefined && { tokenUrl }),
    ...(scope !== undefined && { scopes: scope }),
  };
};

const MAX_KEY_SET_CHARS = 256 * 1024;

/** Whose signature the card must have: a key set is an address, or a file. */
const readSignature = async ({ signed, signedBy }: Input): Promise<AddExternalAgentInput["signature"]> => {
  if (signedBy === undefined) return signed ? { kind: "jku" } : undefined;
  if (/^https?:/i.test(signedBy)) return { kind: "jwksUrl", url: signedBy };
  const text = await readFile(signedBy, "utf8").catch(() => {
    throw usageError(`--signed-by: ${signedBy} is neither an address nor a file that can be read`);
  });
  const parsed = keySet.safeParse(text.slice(0, MAX_KEY_SET_CHARS));
  if (!parsed.success) throw usageError(`--signed-by: ${signedBy} holds no JSON Web Key Set`);
  return { kind: "keys", jwks: parsed.data };
};

const keySet = z
  .string()
  .transform((text, context) => {
    try {
      const value: unknown = JSON.parse(text);
      return value;
    } catch {
      context.addIssue({ code: "custom", message: "is not JSON" });
      return z.NEVER;
    }
  })
  .pipe(z.object({ keys: z.array(z.unknown()) }));

export const externalAdd = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "add <name> <url>",
    about: "register an agent of another organization by the address of its Agent Card",
    options: (command) =>
      orgOption(command)
        .addOption(new Option("--api-key", "it wants an API key, which is asked for or read from standard input"))
        .addOption(new Option("--header <name>", "the header of the API key (default: what the card says)"))
        .addOption(new Option("--bearer", "it wants a bearer token, which is asked for or read from standard input"))
        .addOption(new Option("--client-id <id>", "OAuth 2 client credentials; the secret is asked for or read"))
        .addOption(new Option("--token-url <url>", "where tokens come from (default: what the card says)"))
        .addOption(new Option("--scope <scopes...>", "scopes to ask for (default: what the card requires)"))
        .addOption(new Option("--client-auth <how>", "where the client's secret goes").choices(["basic", "body"]))
        .addOption(new Option("--from-env <variable>", "take the secret from this variable"))
        .addOption(
          new Option("--repeatable", "it recognizes a message that it gets twice, so a call may be sent again"),
        )
        .addOption(new Option("--signed", "its card must be signed, from now on by the keys that it names today"))
        .addOption(new Option("--signed-by <keys>", "its card must be signed by a key of this JWKS: address or file"))
        .addOption(new Option("--replace", "put it in the place of the one with this name")),
    input,
    run: async ({ org, ...given }, show) => {
      const organization = await cli.organization(org);
      const credential = await readCredential(cli, given);
      const signature = await readSignature(given);
      const deps = {
        db: cli.db(),
        clock: cli.clock,
        origin: cli.origin,
        secretKeys: cli.secretKeys(),
        outbound: cli.outbound(),
      };
      const { name, url, repeatable, replace } = given;
      const added = unwrap(
        await addExternalAgent(deps, cli.operatorOf(organization), {
          name,
          url,
          repeatable,
          replace,
          ...(credential !== undefined && { credential }),
          ...(signature !== undefined && { signature }),
        }),
      );
      const { binding, version, url: address } = added.interface;
      const where =
        added.credentialOrigin === null ? "without a credential" : `with a credential for ${added.credentialOrigin}`;
      show({
        json: added,
        text:
          `Registered ${added.name}: ${safe(added.title)}, by ${binding} ${version} at ${safe(address)}, ${where}.\n` +
          (added.signedBy === null ? "" : `Its card is signed; checked with ${safe(added.signedBy)}.\n`) +
          `Try it: ./shaman external test ${added.name} --org ${organization.slug}\n`,
      });
    },
  });
