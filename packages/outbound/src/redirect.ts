import { err, ok, type Result } from "@shaman/kernel";

import type { Guard } from "./guard.ts";
import { outboundRefused } from "./outbound-error.ts";

/** One request of a chain of redirects. */
export type Hop = {
  readonly url: URL;
  readonly method: string;
  readonly headers: Headers;
  readonly body: Uint8Array<ArrayBuffer> | undefined;
};

const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

/** What another origin may see: any other header could be a credential, whatever its name. */
const HARMLESS_HEADERS = ["accept", "accept-language", "content-type", "user-agent"];

const BODY_HEADERS = ["content-type", "content-length", "content-encoding", "content-language", "content-location"];

export const isRedirect = (status: number): boolean => REDIRECTS.has(status);

const harmlessOf = (headers: Headers): Headers => {
  const kept = new Headers();
  for (const name of HARMLESS_HEADERS) {
    const value = headers.get(name);
    if (value !== null) kept.set(name, value);
  }
  return kept;
};

/** Whether the method becomes GET (Fetch standard, HTTP-redirect fetch, step 12). */
const becomesGet = (status: number, method: string): boolean =>
  ((status === 301 || status === 302) && method === "POST") ||
  (status === 303 && method !== "GET" && method !== "HEAD");

/**
 * The request that a redirect asks for. Refused: an address the guard does not let through, a step from https down to
 * http, and a body that would go to another origin, because it may hold credentials too.
 */
export const nextHop = (
  guard: Guard,
  hop: Hop,
  answer: { readonly status: number; readonly location: string | null },
): Result<Hop> => {
  const target = answer.location === null ? undefined : (URL.parse(answer.location, hop.url.href) ?? undefined);
  if (!target) return err(outboundRefused("redirect", `${hop.url.host} redirects without a valid address.`));
  const checked = guard.checkSyntax(target);
  if (!checked.ok) return checked;
  if (hop.url.protocol === "https:" && target.protocol === "http:") {
    return err(outboundRefused("redirect", `${hop.url.host} redirects from https to http, which is not followed.`));
  }
  const sameOrigin = target.origin === hop.url.origin;
  const toGet = becomesGet(answer.status, hop.method);
  const body = toGet ? undefined : hop.body;
  if (!sameOrigin && body !== undefined) {
    return err(
      outboundRefused(
        "redirect",
        `${hop.url.host} redirects a request with a body to another host, which is not followed: use the final address.`,
      ),
    );
  }
  const headers = sameOrigin ? new Headers(hop.headers) : harmlessOf(hop.headers);
  if (toGet) for (const name of BODY_HEADERS) headers.delete(name);
  return ok({ url: checked.value, method: toGet ? "GET" : hop.method, headers, body });
};
