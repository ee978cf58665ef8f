import { createApiKey } from "@shaman/access";
import { unwrap } from "@shaman/kernel";
import { Option, type Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption, usageError } from "../command.ts";
import { apiKeyJson } from "../shapes.ts";
import { futureMoment } from "../time.ts";

const whole = (name: string) => z.coerce.number(`${name} must be a number`).int(`${name} must be a whole number`);

const input = (nowMs: number) =>
  z.object({
    name: z.string(),
    agent: z.array(z.string()).optional(),
    allAgents: z.boolean().default(false),
    expires: futureMoment(nowMs).optional(),
    ip: z.array(z.string()).default([]),
    rate: whole("--rate").optional(),
    priority: whole("--priority").optional(),
    monthlySpend: z.coerce.number("--monthly-spend must be a number").optional(),
    owner: z.string().optional(),
    test: z.boolean().default(false),
  });

export const keyCreate = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "create <name>",
    about: "make an API key; the key itself is printed once, now",
    options: (command) =>
      orgOption(command)
        .addOption(new Option("-a, --agent <name...>", "agents it may call"))
        .addOption(new Option("--all-agents", "every exposed agent, those to come as well"))
        .addOption(new Option("--expires <when>", "90d, 12h or 2027-01-31 (default: never)"))
        .addOption(new Option("--ip <range...>", "addresses it may be used from, such as 10.0.0.0/8"))
        .addOption(new Option("--rate <number>", "calls a second, 0 for no limit (default: the organization's)"))
        .addOption(new Option("--priority <number>", "1 is served first, 5 last"))
        .addOption(new Option("--monthly-spend <usd>", "what its runs may cost a month (default: no limit of its own)"))
        .addOption(new Option("--owner <principal>", "whose tasks it shares, such as user:user_… (default: its own)"))
        .addOption(new Option("--test", "begin it with sk_test_ instead of sk_live_")),
    input: input(cli.clock.now()),
    run: async ({ org, name, agent, allAgents, ...rest }, show) => {
      if ((agent === undefined) === !allAgents) {
        throw usageError("say which agents the key may call: --agent Name Other, or --all-agents");
      }
      const principal = cli.operatorOf(await cli.organization(org));
      const { key, record } = unwrap(
        await createApiKey(cli.access(), principal, {
          name,
          agents: agent ?? "*",
          mode: rest.test ? "test" : "live",
          allowedIps: rest.ip,
          ...(rest.expires !== undefined && { expiresAt: rest.expires }),
          ...(rest.rate !== undefined && { ratePerSecond: rest.rate }),
          ...(rest.priority !== undefined && { priority: rest.priority }),
          ...(rest.monthlySpend !== undefined && { monthlySpendUsd: rest.monthlySpend }),
          ...(rest.owner !== undefined && { ownerId: rest.owner }),
        }),
      );
      const agents = record.agents.includes("*") ? "every exposed agent" : record.agents.join(", ");
      show({
        json: { key: key.reveal(), ...apiKeyJson(record) },
        text:
          `Created the API key ${record.id} for ${agents}:\n\n${key.reveal()}\n\n` +
          "Keep it now: it is stored as a hash only and never shown again.\n",
      });
    },
  });
