import type { Db } from "@shaman/db";
import { findExternalTarget, type ExternalTarget } from "@shaman/external";
import { err, ok, userError, type AppError, type Result } from "@shaman/kernel";
import { z } from "zod";

import { findNearNames } from "../definition/near-name.ts";
import type { AgentResolver, ResolvedAgent } from "./agent-resolver.ts";

/** What an agent means by a name: an agent of the organization, or one outside it. */
export type Callee =
  | { readonly kind: "agent"; readonly agent: ResolvedAgent }
  | { readonly kind: "external"; readonly target: ExternalTarget };

export type CalleeInput = {
  readonly orgId: string;
  /** Who calls, at the commit that its run has pinned. */
  readonly caller: Pick<ResolvedAgent, "repositoryId" | "commit" | "definition">;
  readonly name: string;
};

export type CalleeDeps = { readonly db: Db; readonly agents: Pick<AgentResolver, "resolvePinned" | "resolveExposed"> };

const externalDetails = z.object({ url: z.string() });
const nearDetails = z.object({ near: z.array(z.string()) });

/** The same for what is unknown, private elsewhere, and not listed: who may not call it need not know that it is there. */
const notCallable = ({ caller, name }: CalleeInput, near: readonly string[]): AppError => {
  const shown = name.slice(0, 200);
  const { calls } = caller.definition;
  const all = [...new Set([...findNearNames(shown, calls), ...near])].slice(0, 3);
  const hint = all.length === 0 ? "" : ` Did you mean ${all.join(" or ")}?`;
  const where = "Agents outside its repository must be listed under calls in its file.";
  const message = `${caller.definition.name} knows no agent ${JSON.stringify(shown)}.${hint} ${where}`;
  return userError("agent_not_found", message, { near: all });
};

/**
 * Finds what an agent calls by a name: an alias of its repository, an agent of its repository, and then, if its file lists
 * the name under `calls`, an exposed agent of another repository, or an outside agent of the organization's registry. A
 * private agent reaches outside agents through an alias only. Errors: `agent_not_found` with names that are near,
 * `agent_needs_alias`.
 */
export const resolveCallee = async (deps: CalleeDeps, input: CalleeInput): Promise<Result<Callee>> => {
  const { orgId, caller, name } = input;
  const { repositoryId, commit, definition } = caller;
  const own = await deps.agents.resolvePinned({ orgId, repositoryId, commit, name });
  if (own.ok) return ok({ kind: "agent", agent: own.value });
  if (own.error.code === "agent_external") {
    const { url } = externalDetails.parse(own.error.details);
    return ok({ kind: "external", target: { kind: "url", url, name } });
  }
  if (own.error.code !== "agent_not_found") return own;
  const near = nearDetails.safeParse(own.error.details).data?.near ?? [];
  if (!definition.calls.includes(name)) return err(notCallable(input, near));
  const exposed = await deps.agents.resolveExposed({ orgId, name });
  if (exposed.ok) return ok({ kind: "agent", agent: exposed.value });
  const target = await findExternalTarget(deps.db, orgId, name);
  if (target === undefined) return err(notCallable(input, near));
  if (definition.exposed) return ok({ kind: "external", target });
  const message = `${name} is an outside agent, and ${definition.name} is private: give it an alias with its address in agents.json.`;
  return err(userError("agent_needs_alias", message));
};
