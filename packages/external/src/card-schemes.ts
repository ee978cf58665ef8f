import { z } from "zod";

/** A way to authenticate, as the card declares it. Kinds that we cannot use are kept by name, so that people can be told. */
export type CardScheme = { readonly name: string } & (
  | { readonly kind: "apiKey"; readonly place: string; readonly parameter: string }
  | { readonly kind: "http"; readonly scheme: string }
  | { readonly kind: "clientCredentials"; readonly tokenUrl: string; readonly scopes: readonly string[] }
  | { readonly kind: "other"; readonly called: string }
);

/** Names of schemes that apply together, with the scopes each needs. */
export type SchemeNeed = Readonly<Record<string, readonly string[]>>;

const MAX_SCHEMES = 20;
const MAX_NEEDS = 20;
const MAX_SCOPES = 50;
const MAX_NAME_CHARS = 200;

const short = z.string().max(MAX_NAME_CHARS);
const scopes = z.record(z.string(), z.unknown());
const clientCredentials = z.object({ tokenUrl: z.string().max(2_000), scopes: scopes.nullish() });
const flows = z.object({ clientCredentials: clientCredentials.nullish() });

/** 1.0 names the kind by the member, 0.3 by `type`; a card for both has both, saying the same. */
const anyScheme = z.object({
  apiKeySecurityScheme: z.object({ location: short, name: short }).nullish(),
  httpAuthSecurityScheme: z.object({ scheme: short }).nullish(),
  oauth2SecurityScheme: z.object({ flows }).nullish(),
  type: short.nullish(),
  in: short.nullish(),
  name: short.nullish(),
  scheme: short.nullish(),
  flows: flows.nullish(),
});
type AnyScheme = z.output<typeof anyScheme>;

const oauth = (name: string, given: z.output<typeof flows> | null | undefined): CardScheme => {
  const flow = given?.clientCredentials;
  if (flow === undefined || flow === null) return { name, kind: "other", called: "OAuth without client credentials" };
  const named = Object.keys(flow.scopes ?? {}).slice(0, MAX_SCOPES);
  return { name, kind: "clientCredentials", tokenUrl: flow.tokenUrl, scopes: named };
};

const schemeOf = (name: string, value: AnyScheme): CardScheme => {
  if (value.apiKeySecurityScheme) {
    const { location, name: parameter } = value.apiKeySecurityScheme;
    return { name, kind: "apiKey", place: location, parameter };
  }
  if (value.httpAuthSecurityScheme) return { name, kind: "http", scheme: value.httpAuthSecurityScheme.scheme };
  if (value.oauth2SecurityScheme) return oauth(name, value.oauth2SecurityScheme.flows);
  switch (value.type) {
    case "apiKey":
      return { name, kind: "apiKey", place: value.in ?? "", parameter: value.name ?? "" };
    case "http":
      return { name, kind: "http", scheme: value.scheme ?? "" };
    case "oauth2":
      return oauth(name, value.flows);
    default:
      return { name, kind: "other", called: value.type ?? "an unknown scheme" };
  }
};

const scopeList = z.array(z.string().max(MAX_NAME_CHARS)).max(MAX_SCOPES);
const requirementNew = z.object({
  schemes: z.record(short, z.object({ list: scopeList.nullish() })),
});
const requirementOld = z.record(short, scopeList);

/** 1.0: `{"schemes": {"name": {"list": []}}}`. 0.3, and some 1.0 cards: `{"name": []}` as in OpenAPI. */
const needOf = (value: unknown): SchemeNeed | undefined => {
  const current = requirementNew.safeParse(value);
  if (current.success) {
    return Object.fromEntries(Object.entries(current.data.schemes).map(([name, { list }]) => [name, list ?? []]));
  }
  const old = requirementOld.safeParse(value);
  return old.success ? old.data : undefined;
};

/** Reads the security part of a card of either version; what cannot be read is left out. */
export const readSchemes = (input: {
  readonly schemes: Readonly<Record<string, unknown>>;
  readonly requirements: readonly unknown[];
}): { readonly schemes: readonly CardScheme[]; readonly needs: readonly SchemeNeed[] } => {
  const schemes = Object.entries(input.schemes)
    .slice(0, MAX_SCHEMES)
    .flatMap(([name, value]) => {
      const parsed = anyScheme.safeParse(value);
      return parsed.success && name.length <= MAX_NAME_CHARS ? [schemeOf(name, parsed.data)] : [];
    });
  const needs = input.requirements
    .slice(0, MAX_NEEDS)
    .map(needOf)
    .filter((need) => need !== undefined);
  return { schemes, needs };
};
