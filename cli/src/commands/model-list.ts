import { listedPrices, withListedPrices } from "@shaman/llm";
import { unwrap } from "@shaman/kernel";
import { listModelCredentials } from "@shaman/tenancy";
import type { Command } from "commander";
import { z } from "zod";
import type { Cli } from "../cli.ts";
import { addCommand, orgOption } from "../command.ts";
import { modelCredentialJson } from "../shapes.ts";
import { table } from "../table.ts";
import { fromNow } from "../time.ts";

export const modelList = (parent: Command, cli: Cli): void =>
  addCommand(parent, cli, {
    signature: "list",
    about: "list model providers, aliases and prices",
    options: orgOption,
    input: z.object({}),
    run: async ({ org }, show) => {
      const organization = await cli.organization(org);
      const providers = unwrap(await listModelCredentials({ db: cli.db() }, cli.operatorOf(organization)));
      const { modelAliases, defaultModel, prices } = organization.settings;
      const nowMs = cli.clock.now();
      const registered = table(
        [
          { title: "provider", cell: (each) => each.provider },
          { title: "kind", cell: (each) => each.kind },
          { title: "key", cell: (each) => (each.hasKey ? "set" : "none") },
          { title: "address", cell: (each) => each.baseUrl ?? "the provider's own" },
          { title: "changed", cell: (each) => fromNow(each.updatedAt, nowMs) },
        ],
        providers,
      );
      const none =
        `${organization.name} has no model providers yet; scripted/… models work without.\n` +
        `Add one: ./shaman model set-key openai --org ${organization.slug}\n`;
      const aliases = Object.entries(modelAliases);
      const aliasTable = table(
        [
          { title: "alias", cell: ([name]) => name },
          { title: "model", cell: ([, models]) => [models].flat().join(", then ") },
        ],
        aliases,
      );
      const known = withListedPrices(prices);
      const providerNames = new Set(providers.map((each) => each.provider));
      const priced = Object.entries(known).filter(([model]) => providerNames.has(model.split("/")[0] ?? ""));
      const priceTable = table(
        [
          { title: "model", cell: ([model]) => model },
          { title: "input", cell: ([, price]) => price.input, right: true },
          { title: "cached", cell: ([, price]) => price.cached, right: true },
          { title: "output", cell: ([, price]) => price.output, right: true },
          { title: "from", cell: ([model]) => (Object.hasOwn(prices, model) ? "this organization" : "listed") },
        ],
        priced,
      );
      const sections = [
        providers.length === 0 ? none : registered,
        defaultModel === undefined ? "" : `Agents that name no model use ${defaultModel}.\n`,
        aliases.length === 0 ? "" : aliasTable,
        priced.length === 0 ? "" : `USD per million tokens:\n\n${priceTable}`,
      ];
      show({
        json: {
          providers: providers.map(modelCredentialJson),
          defaultModel: defaultModel ?? null,
          aliases: modelAliases,
          prices: { organization: prices, listed: listedPrices },
        },
        text: sections.filter((section) => section !== "").join("\n"),
      });
    },
  });
