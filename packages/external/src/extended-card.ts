import { randomUUID } from "node:crypto";
import { AppError, err, type Json, type JsonObject, type Result } from "@shaman/kernel";
import { conceal } from "@shaman/outbound";
import { z } from "zod";

import type { ExternalCard, SupportedInterface } from "./card.ts";
import type { CardTrust } from "./card-signature.ts";
import { CARD_LIMITS, cardUnreadable, readCard, type FetchCardDeps } from "./fetch-card.ts";

type Ask = { readonly method: "GET" | "POST"; readonly url: string; readonly body?: JsonObject };

const below = (base: string, path: string): string => {
  const url = new URL(base);
  url.pathname = `${url.pathname.replace(/\/+$/, "")}${path}`;
  return url.href;
};

const askOf = ({ url, binding, version, tenant }: SupportedInterface, id: string): Ask => {
  if (binding === "HTTP+JSON") {
    const prefix = tenant === undefined ? "" : `/${encodeURIComponent(tenant)}`;
    if (version === "1.0") return { method: "GET", url: below(url, `${prefix}/extendedAgentCard`) };
    return { method: "GET", url: below(url.replace(/\/v1\/?$/, ""), "/v1/card") };
  }
  const call =
    version === "1.0"
      ? { method: "GetExtendedAgentCard", params: tenant === undefined ? {} : { tenant } }
      : { method: "agent/getAuthenticatedExtendedCard" };
  return { method: "POST", url, body: { jsonrpc: "2.0", id, ...call } };
};

const rpcAnswer = z.object({ id: z.string(), result: z.custom<Json>((value) => value !== undefined) });

/**
 * Asks an agent for the card that it shows only to those who authenticate (A2A 1.0.1 §3.1.11, 0.3 §7.10), by the interface
 * that calls take, with the headers that they have. Errors: those of any card.
 */
export const fetchExtendedCard = async (
  deps: FetchCardDeps,
  input: {
    readonly from: SupportedInterface;
    readonly headers: Readonly<Record<string, string>>;
    readonly trust: CardTrust | undefined;
    readonly signal: AbortSignal;
  },
): Promise<Result<ExternalCard>> => {
  const { from, headers, trust, signal } = input;
  const { host } = new URL(from.url);
  const id = randomUUID();
  const ask = askOf(from, id);
  try {
    const answered = await deps.outbound.fetchWith(CARD_LIMITS)(ask.url, {
      method: ask.method,
      headers: {
        accept: "application/json, application/a2a+json",
        "a2a-version": from.version,
        ...(ask.body !== undefined && { "content-type": "application/json" }),
        ...headers,
      },
      ...(ask.body !== undefined && { body: JSON.stringify(ask.body) }),
      signal,
    });
    const response = conceal(answered, Object.values(headers));
    const text = await response.text();
    if (response.status !== 200) return err(cardUnreadable(host, `it answered ${response.status}`));
    const answer: Json = JSON.parse(text);
    if (ask.body === undefined) return await readCard(deps, answer, { trust, signal });
    const parsed = rpcAnswer.safeParse(answer);
    if (!parsed.success || parsed.data.id !== id) return err(cardUnreadable(host, "it answered with an error"));
    return await readCard(deps, parsed.data.result, { trust, signal });
  } catch (thrown) {
    if (signal.aborted) throw thrown;
    if (thrown instanceof AppError) return err(thrown);
    if (thrown instanceof SyntaxError) return err(cardUnreadable(host, "the answer is not JSON"));
    throw thrown;
  }
};
