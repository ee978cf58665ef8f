import { AppError, err, ok, userError, type Clock, type Json, type Result } from "@shaman/kernel";
import type { Outbound } from "@shaman/outbound";

import { asSupported, parseCard, type ExternalCard } from "./card.ts";
import { checkSignature, type CardTrust } from "./card-signature.ts";
import { freshnessOf, type Freshness } from "./freshness.ts";

export type FetchCardDeps = { readonly outbound: Pick<Outbound, "fetchWith" | "checkUrl">; readonly clock: Clock };

/** A card as a cache keeps it. */
export type CachedCard = {
  readonly card: ExternalCard;
  readonly url: string;
  readonly etag: string | null;
  readonly lastModified: string | null;
  readonly fetchedAtMs: number;
} & Freshness;

export const CARD_LIMITS = { timeoutMs: 10_000, maxBytes: 512 * 1024, maxRedirects: 3 };
const WELL_KNOWN = "/.well-known/agent-card.json";
const MAX_VALIDATOR_CHARS = 500;

/** Where the card of an agent may be when somebody gives this address: there, or at the well-known place below it. */
export const cardUrlsOf = (address: string): readonly string[] => {
  const url = URL.parse(address);
  if (url === null || url.pathname.endsWith(".json")) return [address];
  const below = new URL(url);
  below.pathname = `${url.pathname.replace(/\/+$/, "")}${WELL_KNOWN}`;
  return [url.href, below.href];
};

const validator = (headers: Headers, name: string): string | null => {
  const value = headers.get(name);
  return value !== null && value.length <= MAX_VALIDATOR_CHARS ? value : null;
};

export const cardUnreadable = (host: string, why: string): AppError =>
  userError("external_card_unavailable", `${host} gave no Agent Card: ${why}.`);

/**
 * Every interface that we could use must be an address we may call: the card is refused as a whole otherwise, because
 * whoever wrote it tries to lead us somewhere. A name that does not resolve right now is left to the call.
 */
const checkInterfaces = async (deps: FetchCardDeps, card: ExternalCard): Promise<Result<ExternalCard>> => {
  for (const each of card.interfaces) {
    if (asSupported(each) === undefined) continue;
    const checked = await deps.outbound.checkUrl(each.url);
    if (!checked.ok && checked.error.code === "outbound_refused") {
      const message = `The card of ${card.name} names an interface that must not be called: ${checked.error.message}`;
      return err(userError("outbound_refused", message, checked.error.details));
    }
  }
  return ok(card);
};

const readBody = async (response: Response): Promise<Result<Json>> => {
  const text = await response.text();
  try {
    const value: Json = JSON.parse(text);
    return ok(value);
  } catch {
    return err(cardUnreadable(new URL(response.url).host, "the answer is not JSON"));
  }
};

/** Reads a card as it came: checks its signature, then its addresses. */
export const readCard = async (
  deps: FetchCardDeps,
  value: Json,
  input: { readonly trust: CardTrust | undefined; readonly signal: AbortSignal },
): Promise<Result<ExternalCard>> => {
  const checked = await checkSignature(deps, { card: value, ...input });
  if (!checked.ok) return checked;
  const { card, signedBy } = checked.value;
  const parsed = parseCard(card);
  if (!parsed.ok) return parsed;
  return checkInterfaces(deps, { ...parsed.value, ...(signedBy !== undefined && { signedBy }) });
};

type FetchCard = {
  readonly url: string;
  readonly known?: CachedCard | undefined;
  /** Whose signature it must have. */
  readonly trust?: CardTrust | undefined;
  readonly signal: AbortSignal;
};

const fetchOnce = async (deps: FetchCardDeps, input: FetchCard): Promise<Result<CachedCard>> => {
  const { url, trust, signal } = input;
  // A card that has not changed may be signed by a key that is no longer one.
  const known = trust === undefined ? input.known : undefined;
  const headers = new Headers({ accept: "application/json" });
  if (known?.etag) headers.set("if-none-match", known.etag);
  else if (known?.lastModified) headers.set("if-modified-since", known.lastModified);
  const response = await deps.outbound.fetchWith(CARD_LIMITS)(url, { headers, signal });
  const nowMs = deps.clock.now();
  if (response.status === 304 && known !== undefined) {
    return ok({ ...known, fetchedAtMs: nowMs, ...freshnessOf(response.headers, nowMs) });
  }
  if (response.status !== 200) {
    await response.body?.cancel();
    return err(cardUnreadable(new URL(url).host, `it answered ${response.status}`));
  }
  const body = await readBody(response);
  if (!body.ok) return body;
  const card = await readCard(deps, body.value, { trust, signal });
  if (!card.ok) return card;
  return ok({
    card: card.value,
    url,
    etag: validator(response.headers, "etag"),
    lastModified: validator(response.headers, "last-modified"),
    fetchedAtMs: nowMs,
    ...freshnessOf(response.headers, nowMs),
  });
};

/**
 * Fetches a card through the guard, conditionally when one is known (A2A 1.0.1 §8.6.2), and checks its signature. Errors:
 * `external_card_unavailable`, `external_card_invalid`, `external_card_unsigned`, `external_card_signature_invalid`, `outbound_*`. Throws the signal's reason.
 */
export const fetchCard = async (deps: FetchCardDeps, input: FetchCard): Promise<Result<CachedCard>> => {
  try {
    return await fetchOnce(deps, input);
  } catch (thrown) {
    if (input.signal.aborted || !(thrown instanceof AppError)) throw thrown;
    return err(thrown);
  }
};

/** The first of the places that has a card; the error of the first place otherwise, unless a later one says more. */
export const findCard = async (
  deps: FetchCardDeps,
  input: { readonly address: string; readonly trust?: CardTrust | undefined; readonly signal: AbortSignal },
): Promise<Result<CachedCard>> => {
  let failed: Result<CachedCard> | undefined;
  for (const url of cardUrlsOf(input.address)) {
    const found = await fetchCard(deps, { url, trust: input.trust, signal: input.signal });
    if (found.ok) return found;
    if (failed === undefined || (!failed.ok && failed.error.code.startsWith("external_card"))) failed = found;
    // What must not be called at all is not called at another path either.
    if (found.error.code === "outbound_refused") break;
  }
  return failed ?? err(cardUnreadable("The address", "it is no address"));
};
