import { describeIssues, err, ok, userError, type AppError, type Result } from "@shaman/kernel";
import { z } from "zod";

import { readSchemes, type CardScheme, type SchemeNeed } from "./card-schemes.ts";

export type Binding = "JSONRPC" | "HTTP+JSON";
export type ProtocolVersion = "1.0" | "0.3";

/** One way to reach the agent, in the words of its card. */
export type CardInterface = {
  readonly url: string;
  readonly binding: string;
  readonly version: string;
  /** To be sent back exactly as it is (A2A 1.0.1 §8.3.2). */
  readonly tenant?: string;
};

/** An interface that we speak. */
export type SupportedInterface = CardInterface & { readonly binding: Binding; readonly version: ProtocolVersion };

/** What we keep of a foreign Agent Card, whichever version it was written in. */
export type ExternalCard = {
  readonly name: string;
  readonly description: string;
  readonly version: string;
  /** In the card's order, which is its order of preference. */
  readonly interfaces: readonly CardInterface[];
  readonly streaming: boolean;
  /** Whether it shows another card to those who authenticate. Absent in cards of before: no. */
  readonly offersExtended?: boolean;
  /** Where the keys are by which its signature was checked. Absent: nobody checked one. */
  readonly signedBy?: string;
  /** URIs that every request has to name. */
  readonly requiredExtensions: readonly string[];
  readonly schemes: readonly CardScheme[];
  /** Alternatives; the schemes of one apply together. */
  readonly needs: readonly SchemeNeed[];
  readonly skills: readonly { readonly id: string; readonly name: string; readonly description: string }[];
};

const MAX_INTERFACES = 20;
const MAX_FALLBACKS = 4;
const MAX_EXTENSIONS = 20;
const MAX_SKILLS = 50;
const MAX_TEXT_CHARS = 2_000;
const MAX_URL_CHARS = 2_000;

/** Foreign text that people will read: shortened, and without what moves a cursor. */
const shortText = (max: number) => z.string().transform((text) => text.slice(0, max).replace(/\p{Cc}+/gu, " "));
const text = shortText(MAX_TEXT_CHARS);
const url = z.string().max(MAX_URL_CHARS);
/** Null is absent (ProtoJSON). */
const optional = <T extends z.ZodType>(schema: T) => schema.nullish().transform((value) => value ?? undefined);

const interfaceNew = z.object({
  url,
  protocolBinding: shortText(200),
  protocolVersion: optional(shortText(20)),
  tenant: optional(z.string().max(500)),
});
const interfaceOld = z.object({ url, transport: shortText(200) });
const extension = z.object({ uri: optional(z.string()), required: optional(z.boolean()) });
const skill = z.object({ id: shortText(200), name: shortText(200), description: optional(text) });

const cardSchema = z.object({
  name: shortText(200),
  description: optional(text),
  version: optional(shortText(100)),
  capabilities: optional(
    z.object({
      streaming: optional(z.boolean()),
      extendedAgentCard: optional(z.boolean()),
      extensions: optional(z.array(extension).max(1_000)),
    }),
  ),
  supportsAuthenticatedExtendedCard: optional(z.boolean()),
  skills: optional(z.array(skill).max(10_000)),
  securitySchemes: optional(z.record(z.string(), z.unknown())),
  securityRequirements: optional(z.array(z.unknown()).max(100)),
  security: optional(z.array(z.unknown()).max(100)),
  supportedInterfaces: optional(z.array(interfaceNew).max(1_000)),
  url: optional(url),
  preferredTransport: optional(shortText(200)),
  additionalInterfaces: optional(z.array(interfaceOld).max(1_000)),
  protocolVersion: optional(shortText(20)),
});
type RawCard = z.output<typeof cardSchema>;

const invalid = (why: string): AppError =>
  userError("external_card_invalid", `What is at this address is no Agent Card: ${why}.`);

/** `supportedInterfaces` present: 1.0's rules. Absent: 0.3's fields, the preferred transport first. */
const interfacesOf = (card: RawCard): readonly CardInterface[] => {
  if (card.supportedInterfaces !== undefined && card.supportedInterfaces.length > 0) {
    return card.supportedInterfaces.map(({ url: address, protocolBinding, protocolVersion, tenant }) => ({
      url: address,
      binding: protocolBinding,
      version: protocolVersion ?? "1.0",
      ...(tenant !== undefined && tenant !== "" && { tenant }),
    }));
  }
  const version = card.protocolVersion ?? "0.3";
  const first =
    card.url === undefined ? [] : [{ url: card.url, binding: card.preferredTransport ?? "JSONRPC", version }];
  const more = (card.additionalInterfaces ?? []).map((each) => ({ url: each.url, binding: each.transport, version }));
  const isRepeat = (each: CardInterface): boolean =>
    first.some((one) => one.url === each.url && one.binding === each.binding);
  return [...first, ...more.filter((each) => !isRepeat(each))];
};

/** Letters and signs of a URI that a header can carry in a comma-separated list. */
const EXTENSION_URI = /^[\x21-\x2b\x2d-\x7e]{1,500}$/;

const requiredExtensionsOf = (card: RawCard): Result<readonly string[]> => {
  const required = (card.capabilities?.extensions ?? []).filter((each) => each.required === true);
  const uris = [...new Set(required.map(({ uri }) => uri ?? ""))];
  if (uris.length > MAX_EXTENSIONS) return err(invalid(`it requires more than ${MAX_EXTENSIONS} extensions`));
  const odd = uris.find((uri) => !EXTENSION_URI.test(uri));
  return odd === undefined ? ok(uris) : err(invalid("it requires an extension whose URI is none"));
};

/**
 * Reads a foreign Agent Card of A2A 1.0 or 0.3: what we do not need is dropped, texts and lists are capped. Error:
 * `external_card_invalid`.
 */
export const parseCard = (value: unknown): Result<ExternalCard> => {
  const parsed = cardSchema.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues.slice(0, 1);
    return err(invalid(issue[0]?.path.length === 0 ? `it ${describeIssues(issue)}` : describeIssues(issue)));
  }
  const card = parsed.data;
  const interfaces = interfacesOf(card).slice(0, MAX_INTERFACES);
  if (interfaces.length === 0) return err(invalid("it names no interface"));
  const requiredExtensions = requiredExtensionsOf(card);
  if (!requiredExtensions.ok) return requiredExtensions;
  const { schemes, needs } = readSchemes({
    schemes: card.securitySchemes ?? {},
    requirements: card.securityRequirements ?? card.security ?? [],
  });
  return ok({
    name: card.name,
    description: card.description ?? "",
    version: card.version ?? "",
    interfaces,
    streaming: card.capabilities?.streaming ?? false,
    offersExtended: card.capabilities?.extendedAgentCard ?? card.supportsAuthenticatedExtendedCard ?? false,
    requiredExtensions: requiredExtensions.value,
    schemes,
    needs,
    skills: (card.skills ?? []).slice(0, MAX_SKILLS).map((each) => ({ ...each, description: each.description ?? "" })),
  });
};

const BINDINGS: readonly Binding[] = ["JSONRPC", "HTTP+JSON"];

/** `1.0`, and `1.0.7`, because a patch number decides nothing (A2A 1.0.1 §3.6). */
const versionOf = (text: string): ProtocolVersion | undefined => {
  const [, minor] = /^(\d+\.\d+)(?:\.\d+)?$/.exec(text.trim()) ?? [];
  return minor === "1.0" || minor === "0.3" ? minor : undefined;
};

/** The interface in our words; undefined for one that we do not speak. */
export const asSupported = (candidate: CardInterface): SupportedInterface | undefined => {
  const binding = BINDINGS.find((each) => each === candidate.binding.trim().toUpperCase());
  const version = versionOf(candidate.version);
  return binding === undefined || version === undefined ? undefined : { ...candidate, binding, version };
};

/** The other interfaces that we speak, in the card's order (§5.2). */
export const fallbacksOf = (card: ExternalCard, chosen: SupportedInterface): readonly SupportedInterface[] =>
  card.interfaces
    .map(asSupported)
    .filter((each) => each !== undefined)
    .filter(
      ({ url, binding, version }) => url !== chosen.url || binding !== chosen.binding || version !== chosen.version,
    )
    .slice(0, MAX_FALLBACKS);

/** The card's first interface that we speak (A2A 1.0.1 §8.3.2). Error: `external_interface_unsupported`. */
export const chooseInterface = (card: ExternalCard): Result<SupportedInterface> => {
  for (const candidate of card.interfaces) {
    const supported = asSupported(candidate);
    if (supported !== undefined) return ok(supported);
  }
  const offered = card.interfaces.map(({ binding, version }) => `${binding} ${version}`).join(", ");
  const message = `${card.name} offers ${offered.slice(0, 300)}; Shaman speaks JSONRPC and HTTP+JSON of A2A 1.0 and 0.3.`;
  return err(userError("external_interface_unsupported", message));
};
