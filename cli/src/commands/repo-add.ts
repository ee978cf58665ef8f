import { registerRepository } from "@shaman/agents";
import { unwrap, userError, type Secret } from "@shaman/kernel";
import { Option, type Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption } from "../command.ts";
import { failedAfterOutput } from "../failed-after-output.ts";
import { readSecret, secretFromVariable } from "../io.ts";
import { describeSync, syncAndWait } from "../repository-sync.ts";
import { repositoryJson } from "../shapes.ts";
import { seconds } from "../time.ts";

/** The last part of an address, as a name. */
const nameOf = (url: string): string =>
  (URL.parse(url)?.pathname ?? "")
    .replace(/(?:\.git)?\/*$/, "")
    .replace(/^.*\//, "")
    .replace(/[^A-Za-z0-9_-]+/g, "-");

const input = z.object({
  url: z.string(),
  name: z.string().optional(),
  branch: z.string().default("main"),
  directory: z.string().default(""),
  credential: z.boolean().default(false),
  credentialFromEnv: z.string().optional(),
  every: seconds.optional(),
  wait: z.boolean().default(true),
  timeout: seconds,
});

export const repoAdd = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "add <url>",
    about: "register a Git repository of agents and sync it",
    options: (command) =>
      orgOption(command)
        .addOption(new Option("--name <name>", "what agents and people call it (default: from the address)"))
        .addOption(new Option("--branch <branch>", "the branch that is live").default("main"))
        .addOption(new Option("--directory <path>", "the folder in it that holds the agents (default: all of it)"))
        .addOption(new Option("--credential", "ask for a token (or user:token), or read it from standard input"))
        .addOption(new Option("--credential-from-env <variable>", "take the token from this variable"))
        .addOption(new Option("--every <span>", "sync so often by itself, such as 60s (default: on demand only)"))
        .addOption(new Option("--timeout <span>", "how long to wait for the first sync").default("60s"))
        .addOption(new Option("--no-wait", "do not wait for the first sync")),
    input,
    run: async ({ org, url, every, timeout, wait, ...rest }, show) => {
      if (!URL.canParse(url)) {
        const message = `${url} is no address: write https://…, or in development file:///… with the whole path.`;
        throw userError("invalid_input", message);
      }
      const organization = await cli.organization(org);
      const principal = cli.operatorOf(organization);
      const credential = await readCredential(cli, rest);
      const deps = {
        db: cli.db(),
        origin: cli.origin,
        secretKeys: cli.secretKeys(),
        checkGitUrl: cli.outbound().checkGitUrl,
      };
      const { repositoryId } = unwrap(
        await registerRepository(deps, principal, {
          name: rest.name ?? nameOf(url),
          url,
          branch: rest.branch,
          directory: rest.directory,
          ...(credential !== undefined && { credential }),
          ...(every !== undefined && { syncEverySeconds: every }),
        }),
      );
      if (!wait) {
        const text = `Registered ${rest.name ?? nameOf(url)} (${repositoryId}); a worker syncs it at once.\n`;
        show({ json: { id: repositoryId }, text });
        return;
      }
      const repository = await syncAndWait(cli, principal, { repository: repositoryId, timeoutMs: timeout * 1_000 });
      const next = `See them: ./shaman agent list --org ${organization.slug}\n`;
      show({
        json: repositoryJson(repository),
        text: describeSync(repository) + (repository.state === "ok" ? next : ""),
      });
      if (repository.state !== "ok") throw failedAfterOutput();
    },
  });

const readCredential = async (
  cli: Cli,
  given: { readonly credential: boolean; readonly credentialFromEnv?: string | undefined },
): Promise<Secret | undefined> => {
  if (given.credentialFromEnv !== undefined) return secretFromVariable(cli, given.credentialFromEnv);
  return given.credential ? readSecret(cli.io, "Token (or user:token), not shown: ") : undefined;
};
