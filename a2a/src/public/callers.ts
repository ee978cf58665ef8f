import type { Authenticator } from "@shaman/access";
import { continueTrace } from "@shaman/telemetry";
import { err, GONE, ok, userError, type Result } from "@shaman/kernel";
import type { OrganizationDirectory } from "@shaman/tenancy";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { Caller } from "./call.ts";
import type { RateLimits } from "./rate-limits.ts";

export type CallerDeps = {
  readonly organizations: OrganizationDirectory;
  readonly authenticator: Authenticator;
  readonly rateLimits: RateLimits;
};

export const organizationNotFound = () =>
  userError("organization_not_found", "No organization is served at this host. Check the address you call.");

/**
 * Who calls: organization by the Host header alone, principal by API key, within its rate. One and the same refusal for
 * a wrong key, a key of another organization and none at all.
 */
export const identifyCaller = async (
  deps: CallerDeps,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<Result<Caller>> => {
  const organization = await deps.organizations.byHost(request.headers.host ?? "");
  if (organization === undefined) return err(organizationNotFound());
  const presentedKey = /^Bearer +(\S+) *$/i.exec(request.headers.authorization ?? "")?.[1] ?? "";
  const principal = await deps.authenticator.authenticate({ orgId: organization.id, presentedKey, ip: request.ip });
  if (!principal.ok) return principal;
  const allowed = await deps.rateLimits.consume(organization, principal.value);
  if (!allowed.ok) return allowed;
  const gone = new AbortController();
  reply.raw.once("close", () => {
    if (!reply.raw.writableFinished) gone.abort(GONE);
  });
  const { traceparent } = request.headers;
  return ok({
    organization,
    principal: principal.value,
    requestId: request.id,
    ip: request.ip,
    traceparent: continueTrace(typeof traceparent === "string" ? traceparent : undefined),
    signal: gone.signal,
  });
};
