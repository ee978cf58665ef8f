import type { Db } from "@shaman/db";
import { AppError, err, ok, userError, type Clock, type Result } from "@shaman/kernel";
import type { Outbound } from "@shaman/outbound";
import { open, secretIdentity, type SecretKeys } from "@shaman/secrets";
import { LRUCache } from "lru-cache";

import { chooseInterface, fallbacksOf, type ExternalCard, type SupportedInterface } from "./card.ts";
import { externalAgentNotFound } from "./external-agent.ts";
import { fetchExtendedCard } from "./extended-card.ts";
import { fetchCard, findCard, type CachedCard } from "./fetch-card.ts";
import {
  loadExternalAgent,
  storeCard,
  storeCardError,
  type ExternalTarget,
  type LoadedExternalAgent,
} from "./load-external-agent.ts";
import { createTokens, type TokenRequest, type Tokens } from "./tokens.ts";

export type ExternalDirectoryDeps = {
  readonly db: Db;
  readonly clock: Clock;
  readonly secretKeys: SecretKeys;
  readonly outbound: Pick<Outbound, "fetchWith" | "checkUrl">;
};

/** An outside agent ready to be called. */
export type OpenedExternalAgent = {
  /** Undefined for one that is not registered: it has no credential, and no figures are kept. */
  readonly id: string | undefined;
  readonly name: string;
  readonly card: ExternalCard;
  /** The one that the card prefers. */
  readonly interface: SupportedInterface;
  /** Others that may be used where that one is not there, in the card's order: of its origin, if there is a credential. */
  readonly fallbacks: readonly SupportedInterface[];
  readonly repeatable: boolean;
  /** The headers that authenticate a request to the interface. Errors: `secret_*`, `external_token_*`, `outbound_*`. */
  readonly credentialHeaders: () => Promise<Result<Readonly<Record<string, string>>>>;
  /** Call it when the agent did not accept the headers; true when other ones may be had by asking again. */
  readonly credentialRefused: () => boolean;
};

export type ExternalDirectory = {
  /**
   * Finds the agent, with a card that is fresh enough, and the interface to use. Errors: `external_agent_not_found`,
   * `external_credential_elsewhere`, `external_interface_unsupported`, `external_card_*`, `outbound_*`.
   */
  readonly open: (input: {
    readonly orgId: string;
    readonly target: ExternalTarget;
    /** Asks for the card again even if the known one is fresh. */
    readonly refresh?: boolean;
    readonly signal: AbortSignal;
  }) => Promise<Result<OpenedExternalAgent>>;
};

/** How long after its time a card may be used while its server cannot be reached. */
const STALE_MS = 24 * 60 * 60_000;
/** Cards of aliases whose agent is not registered. */
const MAX_UNREGISTERED = 500;

const isUsable = (cached: CachedCard, nowMs: number): boolean =>
  cached.mayBeStale && nowMs < cached.expiresAtMs + STALE_MS;

/** Whether the server was away, rather than giving another card, or one that must not be used. */
const isAway = (error: AppError): boolean => error.kind === "operational" || error.code === "external_card_unavailable";

const elsewhere = (name: string, origins: { readonly bound: string; readonly now: string }): AppError =>
  userError(
    "external_credential_elsewhere",
    `The card of ${name} now points to ${origins.now}, but its credential is for ${origins.bound} only: register the agent again if that is right.`,
  );

const fixedHeaders = (
  deps: ExternalDirectoryDeps,
  tokens: Tokens,
  input: { readonly orgId: string; readonly agent: LoadedExternalAgent },
): Pick<OpenedExternalAgent, "credentialHeaders" | "credentialRefused"> => {
  const { orgId, agent } = input;
  const { credential, secret } = agent;
  if (credential.kind === "none" || secret === null) {
    return { credentialHeaders: () => Promise.resolve(ok({})), credentialRefused: () => false };
  }
  const opened = () =>
    open(deps.secretKeys, { sealed: secret.sealed, identity: secretIdentity({ orgId, secretId: secret.id }) });
  if (credential.kind !== "clientCredentials") {
    const header = credential.kind === "bearer" ? "authorization" : credential.header;
    const scheme = credential.kind === "bearer" ? "Bearer " : "";
    const credentialHeaders: OpenedExternalAgent["credentialHeaders"] = async () => {
      const value = opened();
      return value.ok ? ok({ [header]: `${scheme}${value.value.reveal()}` }) : value;
    };
    return { credentialHeaders, credentialRefused: () => false };
  }
  const key = `${orgId}\n${secret.id}`;
  let used: Awaited<ReturnType<Tokens["get"]>> | undefined;
  let renewed = false;
  const tokenFor = async (request: TokenRequest): Promise<Result<Readonly<Record<string, string>>>> => {
    try {
      used = await tokens.get(request);
      return ok({ authorization: `Bearer ${used.reveal()}` });
    } catch (thrown) {
      if (thrown instanceof AppError) return err(thrown);
      throw thrown;
    }
  };
  return {
    credentialHeaders: async () => {
      const value = opened();
      if (!value.ok) return value;
      // The row says where the client's secret may go; a token URL of another origin would be a row put together by hand.
      if (new URL(credential.tokenUrl).origin !== secret.origin) {
        return err(elsewhere(agent.name, { bound: secret.origin, now: credential.tokenUrl }));
      }
      return tokenFor({ key, credential, secret: value.value });
    },
    credentialRefused: () => {
      if (used === undefined || renewed) return false;
      tokens.drop(key, used);
      renewed = true;
      return true;
    },
  };
};

/** Knows outside agents: the registered ones from the database, those that only an alias names from their own cards. */
export const createExternalDirectory = (deps: ExternalDirectoryDeps): ExternalDirectory => {
  const tokens = createTokens(deps);
  const unregistered = new LRUCache<string, CachedCard>({ max: MAX_UNREGISTERED });

  const refreshed = async (
    orgId: string,
    agent: LoadedExternalAgent,
    signal: AbortSignal,
  ): Promise<Result<CachedCard>> => {
    const at = { orgId, id: agent.id };
    const { cached: known, trust } = agent;
    const fetched = await fetchCard(deps, { url: known.url, known, trust: trust ?? undefined, signal });
    if (fetched.ok) {
      const { cached, problem } = await extended(orgId, { ...agent, cached: fetched.value }, signal);
      await storeCard(deps.db, at, cached);
      if (problem !== undefined) await storeCardError(deps.db, at, problem.message);
      return ok(cached);
    }
    await storeCardError(deps.db, at, fetched.error.message);
    const usable = isAway(fetched.error) && isUsable(agent.cached, deps.clock.now());
    return usable ? ok(agent.cached) : fetched;
  };

  /** The card that the agent shows to those who authenticate, in the place of the public one (A2A 1.0.1 §3.1.11). */
  const extended = async (
    orgId: string,
    agent: LoadedExternalAgent,
    signal: AbortSignal,
  ): Promise<{ readonly cached: CachedCard; readonly problem?: AppError }> => {
    const { cached, credentialOrigin, trust } = agent;
    const chosen = chooseInterface(cached.card);
    if (cached.card.offersExtended !== true || !chosen.ok) return { cached };
    if (URL.parse(chosen.value.url)?.origin !== credentialOrigin) return { cached };
    const headers = await fixedHeaders(deps, tokens, { orgId, agent }).credentialHeaders();
    if (!headers.ok) return { cached, problem: headers.error };
    const about = { from: chosen.value, headers: headers.value, trust: trust ?? undefined, signal };
    const card = await fetchExtendedCard(deps, about);
    if (!card.ok) return { cached, problem: card.error };
    return { cached: { ...cached, card: { ...card.value, offersExtended: true } } };
  };

  const openRegistered = async (
    orgId: string,
    agent: LoadedExternalAgent,
    input: { readonly refresh: boolean; readonly signal: AbortSignal },
  ): Promise<Result<OpenedExternalAgent>> => {
    const fresh = !input.refresh && deps.clock.now() < agent.cached.expiresAtMs;
    const cached = fresh ? ok(agent.cached) : await refreshed(orgId, agent, input.signal);
    if (!cached.ok) return cached;
    const { card } = cached.value;
    const chosen = chooseInterface(card);
    if (!chosen.ok) return chosen;
    const now = new URL(chosen.value.url).origin;
    if (agent.credentialOrigin !== null && agent.credentialOrigin !== now) {
      return err(elsewhere(agent.name, { bound: agent.credentialOrigin, now }));
    }
    const { id, name, repeatable } = agent;
    const fallbacks = fallbacksOf(card, chosen.value).filter(
      ({ url }) => agent.credentialOrigin === null || URL.parse(url)?.origin === agent.credentialOrigin,
    );
    const headers = fixedHeaders(deps, tokens, { orgId, agent });
    return ok({ id, name, card, interface: chosen.value, fallbacks, repeatable, ...headers });
  };

  const openUnregistered = async (
    orgId: string,
    target: Extract<ExternalTarget, { kind: "url" }>,
    input: { readonly refresh: boolean; readonly signal: AbortSignal },
  ): Promise<Result<OpenedExternalAgent>> => {
    const key = `${orgId}\n${target.url}`;
    const known = unregistered.get(key);
    let cached: Result<CachedCard>;
    if (known === undefined) cached = await findCard(deps, { address: target.url, signal: input.signal });
    else if (!input.refresh && deps.clock.now() < known.expiresAtMs) cached = ok(known);
    else cached = await fetchCard(deps, { url: known.url, known, signal: input.signal });
    if (!cached.ok) {
      const usable = known !== undefined && isAway(cached.error) && isUsable(known, deps.clock.now());
      if (!usable) return cached;
      cached = ok(known);
    }
    unregistered.set(key, cached.value);
    const { card } = cached.value;
    const chosen = chooseInterface(card);
    if (!chosen.ok) return chosen;
    return ok({
      id: undefined,
      name: target.name,
      card,
      interface: chosen.value,
      fallbacks: fallbacksOf(card, chosen.value),
      repeatable: false,
      credentialHeaders: () => Promise.resolve(ok({})),
      credentialRefused: () => false,
    });
  };

  return {
    open: async ({ orgId, target, refresh = false, signal }) => {
      const agent = await loadExternalAgent(deps.db, orgId, target);
      if (agent !== undefined) return openRegistered(orgId, agent, { refresh, signal });
      if (target.kind === "registered") return err(externalAgentNotFound(target.name));
      return openUnregistered(orgId, target, { refresh, signal });
    },
  };
};
