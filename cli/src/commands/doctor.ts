import { toAppError } from "@shaman/kernel";
import type { Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand } from "../command.ts";
import type { Check, Finding } from "../doctor/check.ts";
import { auditCheck, databaseCheck, repositoriesCheck, runsCheck, schemaCheck } from "../doctor/database.ts";
import { gitCheck, nodeCheck, sandboxCheck } from "../doctor/machine.ts";
import { secretsCheck } from "../doctor/secrets.ts";
import { redisCheck, serversCheck, storageCheck } from "../doctor/services.ts";
import { failedAfterOutput } from "../failed-after-output.ts";

const MACHINE = [nodeCheck, gitCheck, sandboxCheck];
const DATABASE = [databaseCheck, schemaCheck];
/** Only tell something once the database is there and has its tables. */
const INSTALLATION = [redisCheck, storageCheck, secretsCheck, serversCheck, runsCheck, auditCheck, repositoriesCheck];

type Named = Finding & { readonly name: string };

const look = async (cli: Cli, check: Check): Promise<Named> => {
  try {
    return { name: check.name, ...(await check.run(cli)) };
  } catch (error) {
    const { message, cause } = toAppError(error);
    const why = cause instanceof Error && cause.message !== message ? ` (${cause.message})` : "";
    return { name: check.name, state: "failed", message: `${message}${why}` };
  }
};

const MARKS = { ok: "ok     ", warning: "warning", failed: "FAILED " } as const;

const describe = ({ name, state, message, hint }: Named): string =>
  `${MARKS[state]}  ${name.padEnd(12)}  ${message}\n${hint === undefined ? "" : `${" ".repeat(23)}${hint}\n`}`;

export const doctor = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "doctor",
    about: "look for what is wrong with this installation; exits 1 when something failed",
    input: z.object({}),
    run: async (_input, show) => {
      const findings: Named[] = [];
      for (const check of [...MACHINE, ...DATABASE]) findings.push(await look(cli, check));
      if (findings.slice(MACHINE.length).every((finding) => finding.state !== "failed")) {
        for (const check of INSTALLATION) findings.push(await look(cli, check));
      }
      const failed = findings.some((finding) => finding.state === "failed");
      show({ json: { ok: !failed, checks: findings }, text: findings.map(describe).join("") });
      if (failed) throw failedAfterOutput();
    },
  });
