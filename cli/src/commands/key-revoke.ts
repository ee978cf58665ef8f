import { revokeApiKey } from "@shaman/access";
import { unwrap } from "@shaman/kernel";
import type { Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption } from "../command.ts";
import { keyId } from "../key-id.ts";
import { apiKeyJson } from "../shapes.ts";

export const keyRevoke = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "revoke <id>",
    about: "end an API key for good; it stops working everywhere within 5 seconds",
    options: orgOption,
    input: z.object({ id: keyId }),
    run: async ({ org, id }, show) => {
      const principal = cli.operatorOf(await cli.organization(org));
      const key = unwrap(await revokeApiKey(cli.access(), principal, { keyId: id }));
      show({ json: apiKeyJson(key), text: `Revoked the API key ${key.id} (${key.name}).\n` });
    },
  });
