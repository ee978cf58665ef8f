import { AppError, err, isJsonObject, ok, userError, type Clock, type Json, type Result } from "@shaman/kernel";
import type { Outbound } from "@shaman/outbound";
import { createLocalJWKSet, decodeProtectedHeader, errors, flattenedVerify } from "jose";
import { z } from "zod";

import { canonicalForms } from "./canonical-card.ts";

const MAX_KEYS = 20;
const MAX_FOREIGN_KEYS = 200;
const text = z.string().max(4_096);
/** The public half of a key to sign with (RFC 7517 §4); anything else of it is dropped. */
const jwk = z.object({
  kty: z.enum(["EC", "OKP", "RSA"]),
  kid: text,
  alg: text.exactOptional(),
  use: text.exactOptional(),
  crv: text.exactOptional(),
  x: text.exactOptional(),
  y: text.exactOptional(),
  n: text.exactOptional(),
  e: text.exactOptional(),
  /** When it ends, in seconds since 1970; no registered member, and in use all the same. */
  exp: z.number().exactOptional(),
});
type Jwk = z.output<typeof jwk>;

/** A JSON Web Key Set (RFC 7517 §5), as far as its keys are of use here. */
export const jwkSet = z.object({ keys: z.array(z.unknown()).max(MAX_FOREIGN_KEYS) }).transform(({ keys }) =>
  keys
    .flatMap((one): Jwk[] => {
      const parsed = jwk.safeParse(one);
      return parsed.success ? [parsed.data] : [];
    })
    .slice(0, MAX_KEYS),
);

/** Whose signature a card must have, as a person decided when the agent was registered. */
export type CardTrust =
  | { readonly kind: "jwksUrl"; readonly url: string }
  | { readonly kind: "keys"; readonly keys: readonly Jwk[] };

type CheckSignatureDeps = { readonly outbound: Pick<Outbound, "fetchWith">; readonly clock: Clock };

/** A card of which nothing is kept but what was signed, where somebody signed it. */
type CheckedCard = {
  readonly card: Json;
  /** Where the keys are by which it was checked; `registered keys` where they were given. Absent: nobody checked it. */
  readonly signedBy?: string;
};

const MAX_SIGNATURES = 8;
const MAX_KEY_SETS = 3;
const KEY_LIMITS = { timeoutMs: 5_000, maxBytes: 256 * 1024, maxRedirects: 3 };
/** No shared secrets, and nothing unsigned. */
const ALGORITHMS = [
  "ES256",
  "ES384",
  "ES512",
  "EdDSA",
  "Ed25519",
  "PS256",
  "PS384",
  "PS512",
  "RS256",
  "RS384",
  "RS512",
];

const signature = z.object({ protected: z.string().max(8_192), signature: z.string().max(8_192) });
type Signature = z.output<typeof signature>;

const unsigned = (why: string): AppError =>
  userError("external_card_unsigned", `The card is not signed as it must be: ${why}.`);

const FORGED = "external_card_signature_invalid";
const forged = (): AppError =>
  userError(FORGED, "The signature of the card does not hold: it was changed after it was signed.");

const keysUnavailable = (url: string, why: string): AppError =>
  new AppError({
    code: "external_card_unavailable",
    kind: "operational",
    message: `The keys of the card's signature could not be had from ${url.slice(0, 200)}: ${why}.`,
  });

const fetchKeys = async (
  deps: CheckSignatureDeps,
  url: string,
  signal: AbortSignal,
): Promise<Result<readonly Jwk[]>> => {
  try {
    const response = await deps.outbound.fetchWith(KEY_LIMITS)(url, {
      headers: { accept: "application/json" },
      signal,
    });
    if (response.status !== 200) return err(keysUnavailable(url, `it answered ${response.status}`));
    const parsed = jwkSet.safeParse(await response.json());
    return parsed.success ? ok(parsed.data) : err(keysUnavailable(url, "what is there is no key set"));
  } catch (thrown) {
    if (signal.aborted) throw thrown;
    // What the guard refuses is told as such: a card that leads us to an inner address is not merely unsigned.
    if (thrown instanceof AppError && thrown.code === "outbound_refused") return err(thrown);
    return err(keysUnavailable(url, thrown instanceof AppError ? thrown.message : "what is there is no JSON"));
  }
};

/** Keys that have ended are no keys (§8.4.3). */
const living = (keys: readonly Jwk[], nowMs: number): readonly Jwk[] =>
  keys.filter(({ exp }) => exp === undefined || exp * 1_000 > nowMs);

type Verdict = { readonly kind: "holds"; readonly payload: string } | { readonly kind: "forged" | "unknown" };

const verify = async (
  { protected: header, signature: value }: Signature,
  forms: readonly string[],
  keys: readonly Jwk[],
): Promise<Verdict> => {
  const find = createLocalJWKSet({ keys: [...keys] });
  let kind: "forged" | "unknown" = "unknown";
  for (const form of forms) {
    const jws = { payload: Buffer.from(form).toString("base64url"), protected: header, signature: value };
    try {
      await flattenedVerify(jws, find, { algorithms: ALGORITHMS });
      return { kind: "holds", payload: form };
    } catch (thrown) {
      // Whoever signed with another key, or in a way we do not know, may still be right.
      const isForged = thrown instanceof errors.JWSSignatureVerificationFailed || thrown instanceof errors.JWSInvalid;
      if (isForged) kind = "forged";
    }
  }
  return { kind };
};

const headerOf = (one: Signature): { readonly kid?: string; readonly jku?: unknown } | undefined => {
  try {
    return decodeProtectedHeader(one);
  } catch {
    return undefined;
  }
};

const signaturesOf = (card: Json): readonly Signature[] => {
  const given = isJsonObject(card) && Array.isArray(card.signatures) ? card.signatures : [];
  return given.slice(0, MAX_SIGNATURES).flatMap((one: Json) => {
    const parsed = signature.safeParse(one);
    return parsed.success ? [parsed.data] : [];
  });
};

/**
 * Checks a card's signatures (A2A 1.0.1 §8.4.3, RFC 7515): by the keys that `trust` names, one of which must have signed
 * it, else by those at the address that a signature itself names (`jku`), through the guard. One that holds is enough. A
 * card whose signatures nobody can check counts as unsigned, which only `trust` forbids. Errors:
 * `external_card_signature_invalid`, `external_card_unsigned`, `external_card_unavailable` (of the keys), `outbound_refused`.
 */
export const checkSignature = async (
  deps: CheckSignatureDeps,
  input: { readonly card: Json; readonly trust: CardTrust | undefined; readonly signal: AbortSignal },
): Promise<Result<CheckedCard>> => {
  const { card, trust, signal } = input;
  const signatures = signaturesOf(card);
  if (!isJsonObject(card) || signatures.length === 0) {
    return trust === undefined ? ok({ card }) : err(unsigned("it has no signature"));
  }
  const forms = canonicalForms(card);
  const sets = new Map<string, Result<readonly Jwk[]>>();
  const keysAt = async (url: string): Promise<Result<readonly Jwk[]>> => {
    const known = sets.get(url) ?? (sets.size < MAX_KEY_SETS ? await fetchKeys(deps, url, signal) : undefined);
    const keys = known ?? err(keysUnavailable(url, "the card names too many places of keys"));
    sets.set(url, keys);
    return keys;
  };
  let problem: AppError | undefined;
  for (const one of signatures) {
    const header = headerOf(one);
    if (header?.kid === undefined) continue;
    const place = trust?.kind === "jwksUrl" ? trust.url : header.jku;
    if (trust?.kind !== "keys" && typeof place !== "string") continue;
    const keys = trust?.kind === "keys" ? ok(trust.keys) : await keysAt(String(place));
    if (!keys.ok) {
      problem = problem?.code === FORGED ? problem : keys.error;
      continue;
    }
    const verdict = await verify(one, forms, living(keys.value, deps.clock.now()));
    // Only what was signed is read: what else stands in the card, anybody may have put there.
    if (verdict.kind === "holds") {
      const signed: Json = JSON.parse(verdict.payload);
      return ok({ card: signed, signedBy: trust?.kind === "keys" ? "registered keys" : String(place) });
    }
    if (verdict.kind === "forged") problem = forged();
  }
  if (problem?.code === FORGED || problem?.code === "outbound_refused") return err(problem);
  if (trust === undefined) return ok({ card });
  return err(problem ?? unsigned("none of its signatures is by a key that was registered"));
};
