import { createOperatorPrincipal } from "@shaman/access";
import type { Db } from "@shaman/db";
import { addExternalAgent, getExternalAgent } from "@shaman/external";
import { Secret, systemClock, unwrap } from "@shaman/kernel";
import { getMcpSource, registerMcpServer, removeMcpServer } from "@shaman/mcp";
import { createOutbound } from "@shaman/outbound";
import type { SecretKeys } from "@shaman/secrets";
import { SEED_ORIGIN } from "./seed-organization.ts";

export type SeedConnectionsInput = {
  readonly db: Db;
  readonly secretKeys: SecretKeys;
  /** The organization that gets them. */
  readonly orgId: string;
  /** Where the tools of the order desk answer. */
  readonly toolsUrl: string;
  /** The partner's agent: its card, and the key that the partner gave us. */
  readonly partner: { readonly cardUrl: string; readonly apiKey: string };
};

const SHOP = "shop";
const TAX_OFFICE = "TaxOffice";

/**
 * Makes sure that the order desk has its tools (an MCP server) and its partner (an outside agent, which is the other
 * organization's). Addresses move with `--port`, keys with a new database: what is registered otherwise is replaced.
 */
export const seedConnections = async (input: SeedConnectionsInput): Promise<void> => {
  const { db, secretKeys, orgId, toolsUrl, partner } = input;
  const operator = createOperatorPrincipal({ orgId, name: "local" });
  const outbound = createOutbound({ allowLoopback: true, mapLocalhost: true });
  const services = { db, clock: systemClock, origin: SEED_ORIGIN, secretKeys, outbound };
  try {
    const source = await getMcpSource(services, operator, SHOP);
    if (!source.ok || source.value.url !== toolsUrl) {
      if (source.ok) unwrap(await removeMcpServer(services, operator, { name: SHOP }));
      const server = { name: SHOP, url: toolsUrl, stateless: true };
      unwrap(await registerMcpServer({ ...services, checkUrl: outbound.checkUrl }, operator, server));
    }
    const known = await getExternalAgent(services, operator, TAX_OFFICE);
    if (known.ok && known.value.cardUrl === partner.cardUrl) return;
    const credential = { kind: "bearer", token: new Secret(partner.apiKey) } as const;
    const agent = { name: TAX_OFFICE, url: partner.cardUrl, credential, repeatable: true, replace: known.ok };
    unwrap(await addExternalAgent(services, operator, agent));
  } finally {
    await outbound.close();
  }
};
