import { rotateApiKey } from "@shaman/access";
import { unwrap } from "@shaman/kernel";
import { Option, type Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption } from "../command.ts";
import { keyId } from "../key-id.ts";
import { apiKeyJson } from "../shapes.ts";
import { futureMoment } from "../time.ts";

export const keyRotate = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "rotate <id>",
    about: "put a new key in place of one, with the same owner, agents and limits",
    options: (command) =>
      orgOption(command)
        .addOption(new Option("--grace <span>", "how long the old key goes on working, such as 24h").default("24h"))
        .addOption(new Option("--now", "stop the old key at once"))
        .addOption(new Option("--expires <when>", "when the new key expires: 90d, 12h or 2027-01-31 (default: never)")),
    input: z.object({
      id: keyId,
      grace: futureMoment(cli.clock.now()),
      now: z.boolean().default(false),
      expires: futureMoment(cli.clock.now()).optional(),
    }),
    run: async ({ org, id, grace, now, expires }, show) => {
      const principal = cli.operatorOf(await cli.organization(org));
      const { key, record } = unwrap(
        await rotateApiKey(cli.access(), principal, {
          keyId: id,
          ...(!now && { oldKeyWorksUntil: grace }),
          ...(expires !== undefined && { expiresAt: expires }),
        }),
      );
      const old = now ? "The old key stopped working." : `The old key works until ${grace.toISOString()}.`;
      show({
        json: { key: key.reveal(), ...apiKeyJson(record) },
        text: `Created the API key ${record.id} in place of ${id}:\n\n${key.reveal()}\n\n${old} Keep the new one now: it is never shown again.\n`,
      });
    },
  });
