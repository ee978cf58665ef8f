import { auditOf, forbidden, type Origin, type Principal } from "@shaman/access";
import { recordAudit } from "@shaman/audit";
import { isUniqueViolation, toJsonb, type Db, type Tx } from "@shaman/db";
import { err, invalidInput, newId, ok, userError, type Clock, type Result } from "@shaman/kernel";
import type { Outbound } from "@shaman/outbound";
import { seal, secretIdentity, type SecretKeys } from "@shaman/secrets";
import { z } from "zod";

import { chooseInterface, type SupportedInterface } from "./card.ts";
import { jwkSet, type CardTrust } from "./card-signature.ts";
import { credentialInput, planCredential, type PlannedCredential } from "./credential.ts";
import { CARD_COLUMNS, cardValues, externalAgentResource } from "./external-agent.ts";
import { findCard, type CachedCard } from "./fetch-card.ts";

export type AddExternalAgentDeps = {
  readonly db: Db;
  readonly clock: Clock;
  readonly origin: Origin;
  readonly secretKeys: SecretKeys;
  readonly outbound: Pick<Outbound, "fetchWith" | "checkUrl">;
};

export const addExternalAgentInput = z.strictObject({
  /** How agents call it. */
  name: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, "must be 1 to 64 letters, digits, - or _"),
  /** Of its Agent Card, or of what has one at `/.well-known/agent-card.json` below it. */
  url: z.string().min(1).max(2_000),
  credential: credentialInput.optional(),
  /** Whether it takes a message that it has seen before for the same message, so that sending it again does no harm. */
  repeatable: z.boolean().default(false),
  /** Whose signature the card must have, now and whenever it is fetched again. Absent: none is demanded. */
  signature: z
    .discriminatedUnion("kind", [
      /** By a key at the address that its signature names now; it may not name another one later. */
      z.strictObject({ kind: z.literal("jku") }),
      z.strictObject({ kind: z.literal("jwksUrl"), url: z.string().max(2_000) }),
      /** By a key of this JSON Web Key Set. */
      z.strictObject({ kind: z.literal("keys"), jwks: jwkSet }),
    ])
    .optional(),
  /** Takes the place of an agent of this name, keeping its id and figures. */
  replace: z.boolean().default(false),
});
export type AddExternalAgentInput = z.input<typeof addExternalAgentInput>;

export type AddedExternalAgent = {
  readonly id: string;
  readonly name: string;
  readonly cardUrl: string;
  readonly title: string;
  readonly interface: SupportedInterface;
  readonly credentialOrigin: string | null;
  /** Where the keys are by which the card's signature was checked; null where nobody checked one. */
  readonly signedBy: string | null;
};

const CREATE = "externalAgent:create";

type Plan = {
  readonly orgId: string;
  readonly name: string;
  readonly repeatable: boolean;
  readonly replace: boolean;
  readonly cached: CachedCard;
  readonly chosen: SupportedInterface;
  readonly trust: CardTrust | null;
  readonly credential: PlannedCredential | undefined;
};

type Wanted = z.output<typeof addExternalAgentInput>["signature"];

/** What is demanded of the first card already. */
const trustOf = async (deps: AddExternalAgentDeps, wanted: Wanted): Promise<Result<CardTrust | undefined>> => {
  switch (wanted?.kind) {
    case undefined:
    case "jku":
      return ok(undefined);
    case "jwksUrl": {
      const checked = await deps.outbound.checkUrl(wanted.url);
      return checked.ok ? ok({ kind: "jwksUrl", url: wanted.url }) : checked;
    }
    case "keys":
      if (wanted.jwks.length > 0) return ok({ kind: "keys", keys: wanted.jwks });
      return err(userError("invalid_input", "The key set holds no public key with a kid that could sign a card."));
  }
};

/** From now on the keys are there and nowhere else: whoever can change the card could name other ones. */
const pin = (signedBy: string | undefined): Result<CardTrust> => {
  if (signedBy !== undefined) return ok({ kind: "jwksUrl", url: signedBy });
  const message = "The card has no signature that names where its key is (jku), so that it cannot be checked.";
  return err(userError("external_card_unsigned", message));
};

const plan = async (
  deps: AddExternalAgentDeps,
  orgId: string,
  input: z.output<typeof addExternalAgentInput>,
  signal: AbortSignal,
): Promise<Result<Plan>> => {
  const demanded = await trustOf(deps, input.signature);
  if (!demanded.ok) return demanded;
  const cached = await findCard(deps, { address: input.url, trust: demanded.value, signal });
  if (!cached.ok) return cached;
  const pinned = input.signature?.kind === "jku" ? pin(cached.value.card.signedBy) : demanded;
  if (!pinned.ok) return pinned;
  const trust = pinned.value ?? null;
  const chosen = chooseInterface(cached.value.card);
  if (!chosen.ok) return chosen;
  const { name, repeatable, replace } = input;
  const without = { orgId, name, repeatable, replace, trust, cached: cached.value, chosen: chosen.value };
  if (input.credential === undefined) return ok({ ...without, credential: undefined });
  const credential = planCredential(cached.value.card, input.credential, new URL(chosen.value.url).origin);
  if (!credential.ok) return credential;
  const { stored } = credential.value;
  if (stored.kind === "clientCredentials") {
    const checked = await deps.outbound.checkUrl(stored.tokenUrl);
    if (!checked.ok) return checked;
  }
  // The card for those who authenticate is asked for by the first call.
  const isDue = cached.value.card.offersExtended === true;
  const kept = isDue ? { ...cached.value, expiresAtMs: cached.value.fetchedAtMs } : cached.value;
  return ok({ ...without, cached: kept, credential: credential.value });
};

/**
 * Registers an outside agent by its card, which is fetched and checked first. A credential is sealed to its row, and bound
 * to the origin of the interface that was chosen (a client's secret: to that of the token URL). Needs
 * `externalAgent:create`. Errors: `forbidden`, `invalid_input`, `external_agent_exists`, `external_card_*`,
 * `external_interface_unsupported`, `outbound_*`.
 */
export const addExternalAgent = async (
  deps: AddExternalAgentDeps,
  principal: Principal,
  input: AddExternalAgentInput,
  signal: AbortSignal = AbortSignal.timeout(60_000),
): Promise<Result<AddedExternalAgent>> => {
  if (!principal.can(CREATE, "/externalAgents/")) return err(forbidden(CREATE));
  const parsed = addExternalAgentInput.safeParse(input);
  if (!parsed.success) return err(invalidInput(parsed.error));
  const planned = await plan(deps, principal.orgId, parsed.data, signal);
  if (!planned.ok) return planned;
  try {
    return await deps.db.withOrg(principal.orgId, (tx) => store(deps, principal, { tx, plan: planned.value }));
  } catch (thrown) {
    if (!isUniqueViolation(thrown, "external_agent_org_id_card_url_key")) throw thrown;
    const message = "An outside agent with this card is registered already, under another name.";
    return err(userError("external_agent_exists", message));
  }
};

const store = async (
  deps: AddExternalAgentDeps,
  principal: Principal,
  { tx, plan: planned }: { readonly tx: Tx; readonly plan: Plan },
): Promise<Result<AddedExternalAgent>> => {
  const { orgId, name, cached, chosen, credential, repeatable, trust } = planned;
  // Two registrations of one name at the same time: the second sees what the first has made.
  await tx.query({ text: "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", values: [`external:${orgId}`] });
  const { rows } = await tx.query<{ id: string; secretId: string | null }>({
    text: `SELECT id, secret_id AS "secretId" FROM external_agent WHERE org_id = $1 AND name = $2 FOR UPDATE`,
    values: [orgId, name],
  });
  const [before] = rows;
  if (before !== undefined && !planned.replace) {
    const message = `There is an outside agent ${name} already: choose another name, or replace it.`;
    return err(userError("external_agent_exists", message));
  }
  const id = before?.id ?? newId("ext");
  const secretId =
    credential === undefined ? null : await insertSecret(tx, deps.secretKeys, { orgId, name, credential });
  const credentialOrigin = credential === undefined ? null : new URL(chosen.url).origin;
  const stored = credential?.stored ?? { kind: "none" };
  await tx.query({
    text: UPSERT,
    values: [orgId, id, name, cached.url, ...cardValues(cached), stored.kind, credentialOrigin, toJsonb(stored)].concat(
      [secretId, repeatable, trust === null ? null : toJsonb(trust)],
    ),
  });
  if (before !== undefined && before.secretId !== null) {
    await tx.query({ text: "DELETE FROM secret WHERE org_id = $1 AND id = $2", values: [orgId, before.secretId] });
  }
  const details = { id, cardUrl: cached.url, interface: chosen.url, credential: stored.kind, credentialOrigin };
  const act = {
    action: CREATE,
    resource: externalAgentResource(name),
    details: { ...details, repeatable, cardTrust: trust?.kind ?? "none" },
  };
  await recordAudit(tx, auditOf(deps, principal, act));
  const { name: title, signedBy = null } = cached.card;
  return ok({ id, name, cardUrl: cached.url, title, interface: chosen, credentialOrigin, signedBy });
};

const UPSERT = `INSERT INTO external_agent (org_id, id, name, card_url, ${CARD_COLUMNS}, credential_kind, credential_origin,
  credential, secret_id, repeatable, card_trust)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
ON CONFLICT (org_id, id) DO UPDATE SET card_url = excluded.card_url, card = excluded.card, card_etag = excluded.card_etag,
  card_last_modified = excluded.card_last_modified, card_fetched_at = excluded.card_fetched_at,
  card_expires_at = excluded.card_expires_at, card_may_be_stale = excluded.card_may_be_stale, card_error = NULL,
  credential_kind = excluded.credential_kind, credential_origin = excluded.credential_origin,
  credential = excluded.credential, secret_id = excluded.secret_id, repeatable = excluded.repeatable,
  card_trust = excluded.card_trust`;

const insertSecret = async (
  tx: Tx,
  keys: SecretKeys,
  input: { readonly orgId: string; readonly name: string; readonly credential: PlannedCredential },
): Promise<string> => {
  const { orgId, name, credential } = input;
  const secretId = newId("secret");
  const sealed = seal(keys, { plaintext: credential.secret, identity: secretIdentity({ orgId, secretId }) });
  await tx.query({
    text: "INSERT INTO secret (org_id, id, name, origin, sealed) VALUES ($1, $2, $3, $4, $5)",
    values: [orgId, secretId, `outside agent ${name}`, credential.secretOrigin, sealed],
  });
  return secretId;
};
