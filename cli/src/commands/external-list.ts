import { listExternalAgents, type ExternalAgentView } from "@shaman/external";
import { unwrap } from "@shaman/kernel";
import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import { addCommand, moreHint, orgOption, pageInput, pageOptions } from "../command.ts";
import { externalAgentJson } from "../shapes.ts";
import { table } from "../table.ts";
import { fromNow } from "../time.ts";

const CREDENTIALS: Readonly<Record<ExternalAgentView["credential"]["kind"], string>> = {
  none: "none",
  apiKey: "API key",
  bearer: "token",
  clientCredentials: "OAuth client",
};

const stateOf = ({ health, cardError, interface: chosen }: ExternalAgentView): string => {
  if (chosen === null) return "no interface";
  if (cardError !== null) return "card unavailable";
  if (health.lastErrorAt !== null && (health.lastOkAt === null || health.lastErrorAt > health.lastOkAt)) {
    return health.lastError ?? "failing";
  }
  return health.lastOkAt === null ? "not called" : "ok";
};

const errorRate = ({ health: { calls, errors } }: ExternalAgentView): string | null =>
  calls === 0 ? null : `${Math.round((errors / calls) * 100)} %`;

export const externalList = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "list",
    about: "list outside agents, with calls, errors and latency of the last 24 hours",
    options: (command) => pageOptions(orgOption(command)),
    input: pageInput,
    run: async ({ org, limit, after }, show) => {
      const organization = await cli.organization(org);
      const page = unwrap(
        await listExternalAgents({ db: cli.db() }, cli.operatorOf(organization), {
          first: limit,
          ...(after !== undefined && { after }),
        }),
      );
      const nowMs = cli.clock.now();
      const text = table(
        [
          { title: "name", cell: (each) => each.name },
          { title: "state", cell: stateOf },
          {
            title: "interface",
            cell: (each) => (each.interface === null ? null : `${each.interface.binding} ${each.interface.version}`),
          },
          { title: "credential", cell: (each) => CREDENTIALS[each.credential.kind] },
          { title: "calls", cell: (each) => each.health.calls, right: true },
          { title: "errors", cell: errorRate, right: true },
          { title: "ms", cell: (each) => each.health.averageLatencyMs, right: true },
          { title: "card", cell: (each) => fromNow(each.cardFetchedAt, nowMs) },
          { title: "address", cell: (each) => each.cardUrl },
        ],
        page.agents,
      );
      const none =
        `${organization.name} has no outside agents yet.\n` +
        `Add one: ./shaman external add Partner https://partner.example.com/ --org ${organization.slug}\n`;
      show({
        json: { agents: page.agents.map(externalAgentJson), endCursor: page.endCursor },
        text: page.agents.length === 0 ? none : text + moreHint(page.endCursor),
      });
    },
  });
