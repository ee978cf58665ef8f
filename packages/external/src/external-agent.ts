import { resourceSegment } from "@shaman/access";
import { toJsonb } from "@shaman/db";
import { userError, type AppError } from "@shaman/kernel";

import { asSupported, type ExternalCard, type SupportedInterface } from "./card.ts";
import type { CardTrust } from "./card-signature.ts";
import type { StoredCredential } from "./credential.ts";
import type { CachedCard } from "./fetch-card.ts";

/** What calls of an outside agent came to in the last 24 hours. */
export type ExternalHealth = {
  readonly calls: number;
  /** Calls that the agent did not answer in a way A2A knows; a task that it failed is no error. */
  readonly errors: number;
  /** Until the agent's first answer. */
  readonly averageLatencyMs: number | null;
  readonly maxLatencyMs: number | null;
  readonly lastOkAt: Date | null;
  readonly lastErrorAt: Date | null;
  readonly lastError: string | null;
};

/** A registered outside agent, as people and scripts see it. Its credential comes out nowhere. */
export type ExternalAgentView = {
  readonly id: string;
  readonly name: string;
  readonly cardUrl: string;
  readonly card: Pick<
    ExternalCard,
    "name" | "description" | "version" | "streaming" | "skills" | "requiredExtensions" | "signedBy"
  >;
  /** Whose signature the card must have; null: none is demanded. */
  readonly cardTrust: CardTrust | null;
  /** Null when the card, as it is now, names none that we speak. */
  readonly interface: SupportedInterface | null;
  readonly cardFetchedAt: Date;
  readonly cardExpiresAt: Date;
  /** Why the last refresh of the card failed. */
  readonly cardError: string | null;
  readonly credential: StoredCredential;
  /** Where the credential may go. */
  readonly credentialOrigin: string | null;
  readonly repeatable: boolean;
  readonly createdAt: Date;
  readonly health: ExternalHealth;
};

export type ExternalAgentRow = {
  readonly id: string;
  readonly name: string;
  readonly cardUrl: string;
  readonly card: ExternalCard;
  readonly cardFetchedAt: Date;
  readonly cardExpiresAt: Date;
  readonly cardError: string | null;
  readonly cardTrust: CardTrust | null;
  readonly credential: StoredCredential;
  readonly credentialOrigin: string | null;
  readonly repeatable: boolean;
  readonly createdAt: Date;
  readonly calls: number;
  readonly errors: number;
  readonly latencyMsSum: number;
  readonly maxLatencyMs: number | null;
  readonly lastOkAt: Date | null;
  readonly lastErrorAt: Date | null;
  readonly lastError: string | null;
};

/** Rows of `e`, each with its figures of the last day. */
export const SELECT_VIEW = `SELECT e.id, e.name, e.card_url AS "cardUrl", e.card, e.card_fetched_at AS "cardFetchedAt",
  e.card_expires_at AS "cardExpiresAt", e.card_error AS "cardError", e.card_trust AS "cardTrust", e.credential,
  e.credential_origin AS "credentialOrigin", e.repeatable, e.created_at AS "createdAt", h.*
FROM external_agent e
LEFT JOIN LATERAL (
  SELECT coalesce(sum(calls), 0) AS calls, coalesce(sum(errors), 0) AS errors,
    coalesce(sum(latency_ms_sum), 0)::bigint AS "latencyMsSum", max(latency_ms_max) AS "maxLatencyMs",
    max(last_ok_at) AS "lastOkAt", max(last_error_at) AS "lastErrorAt",
    (array_agg(last_error ORDER BY last_error_at DESC NULLS LAST))[1] AS "lastError"
  FROM external_agent_health
  WHERE org_id = e.org_id AND external_agent_id = e.id AND hour > now() - interval '24 hours'
) h ON true`;

const interfaceOf = (card: ExternalCard): SupportedInterface | null => {
  for (const candidate of card.interfaces) {
    const supported = asSupported(candidate);
    if (supported !== undefined) return supported;
  }
  return null;
};

export const viewOf = (row: ExternalAgentRow): ExternalAgentView => {
  const { name, description, version, streaming, skills, requiredExtensions, signedBy } = row.card;
  const { calls, errors, latencyMsSum, maxLatencyMs, lastOkAt, lastErrorAt, lastError } = row;
  return {
    id: row.id,
    name: row.name,
    cardUrl: row.cardUrl,
    card: {
      name,
      description,
      version,
      streaming,
      skills,
      requiredExtensions,
      ...(signedBy !== undefined && { signedBy }),
    },
    cardTrust: row.cardTrust,
    interface: interfaceOf(row.card),
    cardFetchedAt: row.cardFetchedAt,
    cardExpiresAt: row.cardExpiresAt,
    cardError: row.cardError,
    credential: row.credential,
    credentialOrigin: row.credentialOrigin,
    repeatable: row.repeatable,
    createdAt: row.createdAt,
    health: {
      calls,
      errors,
      averageLatencyMs: calls === 0 ? null : Math.round(latencyMsSum / calls),
      maxLatencyMs,
      lastOkAt,
      lastErrorAt,
      lastError,
    },
  };
};

/** The values of the card's columns, in the order of `CARD_COLUMNS`. */
export const cardValues = (cached: CachedCard): readonly unknown[] => [
  toJsonb(cached.card),
  cached.etag,
  cached.lastModified,
  new Date(cached.fetchedAtMs),
  new Date(cached.expiresAtMs),
  cached.mayBeStale,
];
export const CARD_COLUMNS = "card, card_etag, card_last_modified, card_fetched_at, card_expires_at, card_may_be_stale";

export const externalAgentResource = (name: string): string => `/externalAgents/${resourceSegment(name)}/`;

export const externalAgentNotFound = (name: string): AppError =>
  userError(
    "external_agent_not_found",
    `This organization has no outside agent ${JSON.stringify(name.slice(0, 100))}.`,
  );
