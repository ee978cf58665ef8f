import { Option, type Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption } from "../command.ts";
import { failedAfterOutput } from "../failed-after-output.ts";
import { describeSync, syncAndWait } from "../repository-sync.ts";
import { repositoryJson } from "../shapes.ts";
import { seconds } from "../time.ts";

export const repoSync = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "sync <name>",
    about: "bring a repository's latest commit live now; exits 1 when it is refused",
    options: (command) =>
      orgOption(command).addOption(new Option("--timeout <span>", "how long to wait for it").default("60s")),
    input: z.object({ name: z.string(), timeout: seconds }),
    run: async ({ org, name, timeout }, show) => {
      const principal = cli.operatorOf(await cli.organization(org));
      const repository = await syncAndWait(cli, principal, { repository: name, timeoutMs: timeout * 1_000 });
      show({ json: repositoryJson(repository), text: describeSync(repository) });
      if (repository.state !== "ok") throw failedAfterOutput();
    },
  });
