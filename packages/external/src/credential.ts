import { err, ok, Secret, userError, type Result } from "@shaman/kernel";
import { z } from "zod";

import type { ExternalCard } from "./card.ts";
import type { CardScheme } from "./card-schemes.ts";

/** How to authenticate at an outside agent, as a person gives it. */
export const credentialInput = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("apiKey"),
    key: z.instanceof(Secret),
    /** Absent: the header that the card's scheme names. */
    header: z.string().optional(),
  }),
  z.strictObject({ kind: z.literal("bearer"), token: z.instanceof(Secret) }),
  z.strictObject({
    kind: z.literal("clientCredentials"),
    clientId: z.string().min(1).max(500),
    clientSecret: z.instanceof(Secret),
    /** Absent: what the card's scheme names. */
    tokenUrl: z.string().max(2_000).optional(),
    /** Absent: what the card requires of this scheme. */
    scopes: z
      .array(z.string().regex(/^[\x21\x23-\x5b\x5d-\x7e]{1,200}$/, "must be a scope"))
      .max(50)
      .optional(),
    /** Where the client's secret stands in the token request (RFC 6749 §2.3.1). */
    authentication: z.enum(["basic", "body"]).default("basic"),
  }),
]);
export type CredentialInput = z.input<typeof credentialInput>;

/** What of a credential is no secret, as the row has it. */
export const storedCredential = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("none") }),
  z.object({ kind: z.literal("apiKey"), header: z.string() }),
  z.object({ kind: z.literal("bearer") }),
  z.object({
    kind: z.literal("clientCredentials"),
    clientId: z.string(),
    tokenUrl: z.string(),
    scopes: z.array(z.string()).readonly(),
    authentication: z.enum(["basic", "body"]),
  }),
]);
export type StoredCredential = z.output<typeof storedCredential>;

/** A credential ready to be sealed. `secretOrigin` is the only place where the secret itself may ever be sent. */
export type PlannedCredential = {
  readonly stored: StoredCredential;
  readonly secret: Secret;
  readonly secretOrigin: string;
};

/** One line of visible ASCII: what a header can carry, and what cannot begin another one. */
const HEADER_VALUE = /^[\x21-\x7e]{1,8192}$/;
const HEADER_NAME = /^[a-z0-9!#$%&'*+.^_`|~-]{1,100}$/;
/** Headers that mean something to the connection or to A2A; a card must not have us fill them with a key. */
const RESERVED_HEADER =
  /^(?:host|connection|content-.*|transfer-encoding|te|trailer|upgrade|expect|keep-alive|accept|cookie|cookie2|origin|referer|user-agent|(?:x-)?a2a-.*|proxy-.*|sec-.*|forwarded|x-forwarded-.*|traceparent|tracestate)$/;

const invalid = (message: string): Result<never> => err(userError("invalid_input", message));

const isOneLine = (secret: Secret): boolean => HEADER_VALUE.test(secret.reveal());

/** Schemes of one kind: those that the card requires come before those that it only knows. */
const schemesOf = <K extends CardScheme["kind"]>(
  card: ExternalCard,
  kind: K,
): readonly Extract<CardScheme, { kind: K }>[] => {
  const needed = new Set(card.needs.flatMap((need) => Object.keys(need)));
  const isOfKind = (scheme: CardScheme): scheme is Extract<CardScheme, { kind: K }> => scheme.kind === kind;
  const schemes = card.schemes.filter(isOfKind);
  return [...schemes.filter(({ name }) => needed.has(name)), ...schemes.filter(({ name }) => !needed.has(name))];
};

const headerOf = (card: ExternalCard, given: string | undefined): Result<string> => {
  if (given === undefined) {
    const schemes = schemesOf(card, "apiKey");
    const named = schemes.find(({ place }) => place === "header");
    if (named === undefined) {
      const elsewhere = schemes[0] === undefined ? "" : ` (it wants the key in its ${schemes[0].place.slice(0, 20)})`;
      return invalid(`The card of ${card.name} names no header for an API key${elsewhere}: name the header yourself.`);
    }
    return headerOf(card, named.parameter);
  }
  const header = given.toLowerCase();
  if (HEADER_NAME.test(header) && !RESERVED_HEADER.test(header)) return ok(header);
  return invalid(`An API key cannot be sent in the header ${JSON.stringify(given.slice(0, 100))}.`);
};

const tokenPlaceOf = (
  card: ExternalCard,
  given: { readonly tokenUrl?: string | undefined; readonly scopes?: readonly string[] | undefined },
): Result<{ readonly tokenUrl: string; readonly scopes: readonly string[] }> => {
  const [scheme] = schemesOf(card, "clientCredentials");
  const tokenUrl = given.tokenUrl ?? scheme?.tokenUrl;
  if (tokenUrl === undefined) {
    return invalid(`The card of ${card.name} names no token URL for client credentials: give it yourself.`);
  }
  const needed = scheme === undefined ? undefined : card.needs.find((need) => Object.hasOwn(need, scheme.name));
  const required = scheme === undefined ? undefined : needed?.[scheme.name];
  return ok({ tokenUrl, scopes: given.scopes ?? required ?? [] });
};

/**
 * Decides once, at registration, what a credential is and where it goes: header, token URL and origins do not follow a
 * card that changes later. `interfaceOrigin` is where the calls go. The token URL is not checked here. Error: `invalid_input`.
 */
export const planCredential = (
  card: ExternalCard,
  input: z.output<typeof credentialInput>,
  interfaceOrigin: string,
): Result<PlannedCredential> => {
  switch (input.kind) {
    case "apiKey": {
      const header = headerOf(card, input.header);
      if (!header.ok) return header;
      if (!isOneLine(input.key)) return invalid("The API key must be one line without spaces.");
      return ok({
        stored: { kind: "apiKey", header: header.value },
        secret: input.key,
        secretOrigin: interfaceOrigin,
      });
    }
    case "bearer":
      if (!isOneLine(input.token)) return invalid("The token must be one line without spaces.");
      return ok({ stored: { kind: "bearer" }, secret: input.token, secretOrigin: interfaceOrigin });
    case "clientCredentials": {
      const place = tokenPlaceOf(card, input);
      if (!place.ok) return place;
      const url = URL.parse(place.value.tokenUrl);
      if (url === null || url.hash !== "") return invalid("The token URL is not a usable address.");
      const { clientId, authentication, clientSecret } = input;
      const stored = {
        kind: "clientCredentials",
        clientId,
        tokenUrl: url.href,
        scopes: place.value.scopes,
        authentication,
      } as const;
      return ok({ stored, secret: clientSecret, secretOrigin: url.origin });
    }
  }
};
