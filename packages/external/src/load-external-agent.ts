import type { Db } from "@shaman/db";

import type { ExternalCard } from "./card.ts";
import type { CardTrust } from "./card-signature.ts";
import type { StoredCredential } from "./credential.ts";
import { CARD_COLUMNS, cardValues } from "./external-agent.ts";
import { cardUrlsOf, type CachedCard } from "./fetch-card.ts";

/** A registered agent with all that calling it needs; the secret is still sealed. */
export type LoadedExternalAgent = {
  readonly id: string;
  readonly name: string;
  readonly cached: CachedCard;
  readonly credential: StoredCredential;
  readonly credentialOrigin: string | null;
  readonly secret: { readonly id: string; readonly origin: string; readonly sealed: string } | null;
  readonly repeatable: boolean;
  /** Whose signature its card must have. */
  readonly trust: CardTrust | null;
};

/** What an agent calls: one that is registered, or the one whose card an alias names by its address. */
export type ExternalTarget =
  | { readonly kind: "registered"; readonly externalAgentId: string; readonly name: string }
  | { readonly kind: "url"; readonly url: string; readonly name: string };

type Row = {
  readonly id: string;
  readonly name: string;
  readonly cardUrl: string;
  readonly card: ExternalCard;
  readonly etag: string | null;
  readonly lastModified: string | null;
  readonly fetchedAt: Date;
  readonly expiresAt: Date;
  readonly mayBeStale: boolean;
  readonly credential: StoredCredential;
  readonly credentialOrigin: string | null;
  readonly secretId: string | null;
  readonly secretOrigin: string | null;
  readonly sealed: string | null;
  readonly repeatable: boolean;
  readonly trust: CardTrust | null;
};

const SELECT = `SELECT e.id, e.name, e.card_url AS "cardUrl", e.card, e.card_etag AS etag,
  e.card_last_modified AS "lastModified", e.card_fetched_at AS "fetchedAt", e.card_expires_at AS "expiresAt",
  e.card_may_be_stale AS "mayBeStale", e.credential, e.credential_origin AS "credentialOrigin",
  s.id AS "secretId", s.origin AS "secretOrigin", s.sealed, e.repeatable, e.card_trust AS trust
FROM external_agent e LEFT JOIN secret s ON s.org_id = e.org_id AND s.id = e.secret_id`;

const loadedOf = (row: Row): LoadedExternalAgent => ({
  id: row.id,
  name: row.name,
  cached: {
    card: row.card,
    url: row.cardUrl,
    etag: row.etag,
    lastModified: row.lastModified,
    fetchedAtMs: row.fetchedAt.getTime(),
    expiresAtMs: row.expiresAt.getTime(),
    mayBeStale: row.mayBeStale,
  },
  credential: row.credential,
  credentialOrigin: row.credentialOrigin,
  secret:
    row.secretId === null || row.secretOrigin === null || row.sealed === null
      ? null
      : { id: row.secretId, origin: row.secretOrigin, sealed: row.sealed },
  repeatable: row.repeatable,
  trust: row.trust,
});

/** The registered agent that a target means: by its id, or because its card is at the alias's address. */
export const loadExternalAgent = async (
  db: Db,
  orgId: string,
  target: ExternalTarget,
): Promise<LoadedExternalAgent | undefined> => {
  const statement =
    target.kind === "registered"
      ? {
          name: "external_by_id",
          text: `${SELECT} WHERE e.org_id = $1 AND e.id = $2`,
          values: [orgId, target.externalAgentId],
        }
      : {
          name: "external_by_url",
          text: `${SELECT} WHERE e.org_id = $1 AND e.card_url = ANY ($2) ORDER BY e.id LIMIT 1`,
          values: [orgId, cardUrlsOf(target.url)],
        };
  const { rows } = await db.withOrg(orgId, (tx) => tx.query<Row>(statement));
  return rows[0] === undefined ? undefined : loadedOf(rows[0]);
};

/** The registered agent of this name, for resolution. */
export const findExternalTarget = async (db: Db, orgId: string, name: string): Promise<ExternalTarget | undefined> => {
  const { rows } = await db.withOrg(orgId, (tx) =>
    tx.query<{ id: string }>({
      name: "external_by_name",
      text: "SELECT id FROM external_agent WHERE org_id = $1 AND name = $2",
      values: [orgId, name],
    }),
  );
  return rows[0] === undefined ? undefined : { kind: "registered", externalAgentId: rows[0].id, name };
};

/** Keeps a card that was fetched anew, unless a newer one is there already. */
export const storeCard = async (
  db: Db,
  at: { readonly orgId: string; readonly id: string },
  cached: CachedCard,
): Promise<void> => {
  await db.withOrg(at.orgId, (tx) =>
    tx.query({
      name: "external_card_store",
      text: `UPDATE external_agent SET (${CARD_COLUMNS}) = ($3, $4, $5, $6, $7, $8), card_error = NULL
        WHERE org_id = $1 AND id = $2 AND card_url = $9 AND card_fetched_at < $6`,
      values: [at.orgId, at.id, ...cardValues(cached), cached.url],
    }),
  );
};

/** Notes why a card could not be refreshed, for the list. */
export const storeCardError = async (
  db: Db,
  at: { readonly orgId: string; readonly id: string },
  message: string,
): Promise<void> => {
  await db.withOrg(at.orgId, (tx) =>
    tx.query({
      name: "external_card_error",
      text: `UPDATE external_agent SET card_error = $3 WHERE org_id = $1 AND id = $2 AND card_error IS DISTINCT FROM $3`,
      values: [at.orgId, at.id, message.slice(0, 500)],
    }),
  );
};
