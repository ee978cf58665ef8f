import { isJsonObject, userError, type Json, type JsonObject } from "@shaman/kernel";

const MAX_DEPTH = 64;

/**
 * What of a field stays at its default: all of it (REQUIRED, or `optional` and set), or nothing. `of` is the shape inside,
 * of each item or value where the field is a list or a map.
 */
type Rule = { readonly stays: boolean; readonly of?: Shape; readonly isMap?: boolean };
type Shape = Readonly<Record<string, Rule>>;

const STAYS: Rule = { stays: true };
const GOES: Rule = { stays: false };
const required = (of: Shape): Rule => ({ stays: true, of });
const plain = (of: Shape): Rule => ({ stays: false, of });
const map = (of: Shape): Rule => ({ stays: false, of, isMap: true });

const REQUIREMENT: Shape = { schemes: map({ list: GOES }) };
const FLOW: Shape = {
  authorizationUrl: STAYS,
  deviceAuthorizationUrl: STAYS,
  tokenUrl: STAYS,
  refreshUrl: GOES,
  scopes: STAYS,
  pkceRequired: GOES,
};
const SCHEME: Shape = {
  apiKeySecurityScheme: plain({ description: GOES, location: STAYS, name: STAYS }),
  httpAuthSecurityScheme: plain({ description: GOES, scheme: STAYS, bearerFormat: GOES }),
  oauth2SecurityScheme: plain({
    description: GOES,
    oauth2MetadataUrl: GOES,
    flows: required({
      authorizationCode: plain(FLOW),
      clientCredentials: plain(FLOW),
      implicit: plain(FLOW),
      password: plain(FLOW),
      deviceCode: plain(FLOW),
    }),
  }),
  openIdConnectSecurityScheme: plain({ description: GOES, openIdConnectUrl: STAYS }),
  mtlsSecurityScheme: plain({ description: GOES }),
};
/** The Agent Card of A2A 1.0.1 (§4.4) without its signatures. */
const CARD: Shape = {
  name: STAYS,
  description: STAYS,
  supportedInterfaces: required({ url: STAYS, protocolBinding: STAYS, tenant: GOES, protocolVersion: STAYS }),
  provider: plain({ url: STAYS, organization: STAYS }),
  version: STAYS,
  documentationUrl: STAYS,
  capabilities: required({
    streaming: STAYS,
    pushNotifications: STAYS,
    extensions: plain({ uri: GOES, description: GOES, required: GOES, params: GOES }),
    extendedAgentCard: STAYS,
  }),
  securitySchemes: map(SCHEME),
  securityRequirements: plain(REQUIREMENT),
  defaultInputModes: STAYS,
  defaultOutputModes: STAYS,
  skills: required({
    id: STAYS,
    name: STAYS,
    description: STAYS,
    tags: STAYS,
    examples: GOES,
    inputModes: GOES,
    outputModes: GOES,
    securityRequirements: plain(REQUIREMENT),
  }),
  iconUrl: STAYS,
};

const isEmpty = (value: Json): boolean =>
  value === null || value === "" || (typeof value === "object" && Object.keys(value).length === 0);

const mapValues = (value: Json, change: (inner: Json) => Json): Json =>
  isJsonObject(value) ? Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, change(inner)])) : value;

type How = { readonly keepUnknown: boolean };

/** The fields that the presence rules keep (§8.4.1), with or without those that 1.0.1 does not know. */
const entriesOf = (value: JsonObject, shape: Shape, how: How): readonly [string, Json][] =>
  Object.entries(value).flatMap(([name, inner]): [string, Json][] => {
    const rule = Object.hasOwn(shape, name) ? shape[name] : undefined;
    if (rule === undefined) return how.keepUnknown ? [[name, inner]] : [];
    const change = (one: Json): Json => shaped(one, rule.of, how);
    const changed = rule.isMap === true ? mapValues(inner, change) : change(inner);
    const goes = changed === null || (!rule.stays && (isEmpty(changed) || changed === false));
    return goes ? [] : [[name, changed]];
  });

const shaped = (value: Json, shape: Shape | undefined, how: How): Json => {
  if (shape === undefined) return value;
  if (Array.isArray(value)) return value.map((item: Json) => shaped(item, shape, how));
  return isJsonObject(value) ? Object.fromEntries(entriesOf(value, shape, how)) : value;
};

/** Without anything empty, as the official SDKs sign (§8.4.3 read literally). */
const withoutEmpty = (value: Json): Json => {
  if (Array.isArray(value)) return value.map(withoutEmpty).filter((item: Json) => !isEmpty(item));
  if (!isJsonObject(value)) return value;
  const entries = Object.entries(value).map(([name, inner]): [string, Json] => [name, withoutEmpty(inner)]);
  return Object.fromEntries(entries.filter(([, inner]) => !isEmpty(inner)));
};

/** RFC 8785: keys by their UTF-16 code units, numbers and strings as ECMAScript writes them, no white space. */
const canonical = (value: Json, depth = 0): string => {
  if (depth > MAX_DEPTH) throw userError("external_card_invalid", `The card is nested more than ${MAX_DEPTH} deep.`);
  if (Array.isArray(value)) return `[${value.map((item: Json) => canonical(item, depth + 1)).join(",")}]`;
  if (!isJsonObject(value)) return JSON.stringify(value);
  const fields = Object.keys(value)
    .toSorted()
    .map((name) => `${JSON.stringify(name)}:${canonical(value[name] ?? null, depth + 1)}`);
  return `{${fields.join(",")}}`;
};

/**
 * The texts that a signature of this card may be over. The specification says it in two ways (§8.4.1, §8.4.3), and cards
 * may hold fields that the signer's schema did not know: as the card stands, by the presence rules with and without
 * unknown fields, and without anything empty, as the official SDKs sign; that for JavaScript (1.3.0) loses the security
 * schemes on the way. Throws `external_card_invalid`.
 */
export const canonicalForms = (card: JsonObject): readonly string[] => {
  const { signatures: _, ...unsigned } = card;
  const asItStands = canonical(unsigned);
  const known = Object.fromEntries(entriesOf(unsigned, CARD, { keepUnknown: false }));
  const { securitySchemes: __, ...withoutSchemes } = known;
  const others = [
    Object.fromEntries(entriesOf(unsigned, CARD, { keepUnknown: true })),
    known,
    withoutEmpty(known),
    withoutEmpty(withoutSchemes),
  ];
  return [...new Set([asItStands, ...others.map((one) => canonical(one))])];
};
