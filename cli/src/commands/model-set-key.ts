import { unwrap } from "@shaman/kernel";
import { MODEL_PROVIDER_KINDS, setModelCredential, type ModelProviderKind } from "@shaman/tenancy";
import { Option, type Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption, usageError } from "../command.ts";
import { readSecret, secretFromVariable } from "../io.ts";
import { modelCredentialJson } from "../shapes.ts";

const kindOf = (provider: string, given: ModelProviderKind | undefined): ModelProviderKind =>
  given ?? MODEL_PROVIDER_KINDS.find((kind) => kind === provider) ?? "openai-compatible";

export const modelSetKey = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "set-key <provider>",
    about: "register a model provider; its key is asked for, or read from standard input",
    options: (command) =>
      orgOption(command)
        .addOption(new Option("--kind <kind>", "what it speaks (default: by its name)").choices(MODEL_PROVIDER_KINDS))
        .addOption(new Option("--base-url <url>", "its address, such as https://…/v1 (default: the provider's own)"))
        .addOption(new Option("--from-env <variable>", "take the key from this variable"))
        .addOption(new Option("--no-key", "it asks for no key")),
    input: z.object({
      provider: z.string(),
      kind: z.enum(MODEL_PROVIDER_KINDS).optional(),
      baseUrl: z.string().optional(),
      fromEnv: z.string().optional(),
      key: z.boolean().default(true),
    }),
    run: async ({ org, provider, kind, baseUrl, fromEnv, key: needsKey }, show) => {
      if (!needsKey && fromEnv !== undefined) throw usageError("--no-key and --from-env exclude each other");
      const organization = await cli.organization(org);
      const askForKey = (): ReturnType<typeof readSecret> =>
        fromEnv === undefined
          ? readSecret(cli.io, `Key of ${provider}, not shown: `)
          : Promise.resolve(secretFromVariable(cli, fromEnv));
      const key = needsKey ? await askForKey() : undefined;
      const deps = {
        db: cli.db(),
        origin: cli.origin,
        secretKeys: cli.secretKeys(),
        checkUrl: cli.outbound().checkUrl,
      };
      const credential = unwrap(
        await setModelCredential(deps, cli.operatorOf(organization), {
          provider,
          kind: kindOf(provider, kind),
          ...(baseUrl !== undefined && { baseUrl }),
          ...(key !== undefined && { key }),
        }),
      );
      const test = `./shaman model test ${provider}/<model> --org ${organization.slug}`;
      show({ json: modelCredentialJson(credential), text: `Registered ${provider}. Try it: ${test}\n` });
    },
  });
