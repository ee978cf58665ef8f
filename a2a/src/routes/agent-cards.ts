import { agentResource } from "@shaman/access";
import type { AgentResolver, ResolvedAgent } from "@shaman/agents";
import { unwrap, userError } from "@shaman/kernel";
import type { Organization, TenancyConfig } from "@shaman/tenancy";
import type { FastifyReply, FastifyRequest } from "fastify";
import { buildAgentCard, encodeAgentCard } from "../public/agent-card.ts";
import { identifyCaller, organizationNotFound, type CallerDeps } from "../public/callers.ts";

export type CardDeps = CallerDeps & { readonly agents: AgentResolver; readonly tenancy: TenancyConfig };

const MAX_AGE_SECONDS = 60;

const cardOf = (deps: CardDeps, organization: Organization, agent: ResolvedAgent) =>
  buildAgentCard(agent, { organization, baseUrl: deps.tenancy.publicUrlOf(organization.slug) });

/** The card of one exposed agent, or of the organization's default agent. Public, and the same for everyone (§8.2). */
export const sendAgentCard = async (
  deps: CardDeps,
  { request, reply }: { readonly request: FastifyRequest; readonly reply: FastifyReply },
  name?: string,
): Promise<void> => {
  const organization = await deps.organizations.byHost(request.headers.host ?? "");
  if (organization === undefined) throw organizationNotFound();
  const orgId = organization.id;
  const resolved =
    name === undefined ? await deps.agents.defaultAgent(orgId) : await deps.agents.resolveExposed({ orgId, name });
  // Without names that are near: which agents there are is told to authenticated callers only.
  if (!resolved.ok) throw userError("agent_not_found", "There is no agent card at this address.");
  const { body, etag } = encodeAgentCard(cardOf(deps, organization, resolved.value));
  reply
    .header("cache-control", `public, max-age=${MAX_AGE_SECONDS}`)
    .header("etag", etag)
    .header("access-control-allow-origin", "*");
  if (isFresh(request.headers["if-none-match"], etag)) return void (await reply.code(304).send());
  await reply.type("application/json").send(body);
};

/** Whether the caller has this version already (RFC 9110 §13.1.2: a list, compared weakly, or `*`). */
const isFresh = (known: string | undefined, etag: string): boolean =>
  known?.split(",").some((one) => one.trim() === "*" || one.trim().replace(/^W\//, "") === etag) ?? false;

/** The cards of the agents this caller may call. */
export const sendCatalogue = async (
  deps: CardDeps,
  { request, reply }: { readonly request: FastifyRequest; readonly reply: FastifyReply },
): Promise<void> => {
  const caller = unwrap(await identifyCaller(deps, request, reply));
  const { organization, principal } = caller;
  const exposed = await deps.agents.listExposed(organization.id);
  const agents = exposed.filter((agent) => principal.can("agent:execute", agentResource(agent.definition.name)));
  await reply.send({ agents: agents.map((agent) => cardOf(deps, organization, agent)) });
};
