import { unwrap, type AppError } from "@shaman/kernel";
import { fetch as undiciFetch, type Agent, type Response as UndiciResponse } from "undici";

import { startDeadline, type Deadline } from "./deadline.ts";
import type { Guard } from "./guard.ts";
import { appErrorIn, outboundFailed, outboundRefused, outboundTimedOut, outboundTooLarge } from "./outbound-error.ts";
import { isRedirect, nextHop, type Hop } from "./redirect.ts";

export type OutboundLimits = {
  /** For everything: redirects, headers and the whole body. */
  readonly timeoutMs: number;
  /** Of the answer's body, after decompression. */
  readonly maxBytes: number;
  readonly maxRedirects: number;
};

/** As the platform's `fetch`; throws the caller's abort reason or an `AppError` with one of the `outbound_*` codes. */
export type OutboundFetch = typeof globalThis.fetch;

export type FetchDeps = { readonly guard: Guard; readonly agent: Agent; readonly limits: OutboundLimits };

const NULL_BODY_STATUS: ReadonlySet<number> = new Set([204, 205, 304]);

/** What a failed step is called: the caller's own abort stays as it is. */
const asThrown = (caller: AbortSignal, deadline: Deadline, host: string, thrown: unknown): unknown => {
  if (caller.aborted) return caller.reason;
  return appErrorIn(deadline.signal.reason) ?? appErrorIn(thrown) ?? outboundFailed(host, thrown);
};

/** Passes the body on, counting; whichever way it ends, the clock stops with it. */
const cappedBody = (input: {
  readonly body: ReadableStream<Uint8Array>;
  readonly deadline: Deadline;
  readonly caller: AbortSignal;
  readonly host: string;
  readonly maxBytes: number;
}): ReadableStream<Uint8Array> => {
  const { deadline, caller, host, maxBytes } = input;
  const reader = input.body.getReader();
  let bytes = 0;
  return new ReadableStream<Uint8Array>({
    pull: async (controller) => {
      try {
        const { done, value } = await reader.read();
        if (done) {
          deadline.clear();
          controller.close();
          return;
        }
        bytes += value.byteLength;
        if (bytes > maxBytes) throw outboundTooLarge(host, maxBytes);
        controller.enqueue(value);
      } catch (thrown) {
        const error = asThrown(caller, deadline, host, thrown);
        deadline.abort(error);
        controller.error(error);
      }
    },
    cancel: (reason) => {
      deadline.abort(reason);
    },
  });
};

const send = (deps: FetchDeps, hop: Hop, deadline: Deadline): Promise<UndiciResponse> =>
  undiciFetch(hop.url, {
    method: hop.method,
    headers: [...hop.headers],
    body: hop.body ?? null,
    redirect: "manual",
    signal: deadline.signal,
    dispatcher: deps.agent,
  });

const refuseRedirect = (host: string): AppError =>
  outboundRefused("redirect", `${host} answers with a redirect, which is not followed here: use the final address.`);

/** Sends the first hop and follows redirects by hand, each through the guard. */
const follow = async (
  deps: FetchDeps,
  input: { readonly first: Hop; readonly redirect: Request["redirect"]; readonly deadline: Deadline },
): Promise<{ readonly hop: Hop; readonly response: UndiciResponse }> => {
  let hop = input.first;
  for (let redirects = 0; ; redirects += 1) {
    const response = await send(deps, hop, input.deadline);
    if (!isRedirect(response.status) || input.redirect === "manual") return { hop, response };
    await response.body?.cancel();
    if (input.redirect === "error") throw refuseRedirect(hop.url.host);
    if (redirects >= deps.limits.maxRedirects) {
      throw outboundRefused("redirect", `${hop.url.host} redirects more than ${deps.limits.maxRedirects} times.`);
    }
    const location = response.headers.get("location");
    hop = unwrap(nextHop(deps.guard, hop, { status: response.status, location }));
  }
};

const answerOf = (
  deps: FetchDeps,
  input: {
    readonly hop: Hop;
    readonly response: UndiciResponse;
    readonly deadline: Deadline;
    readonly caller: AbortSignal;
  },
): Response => {
  const { hop, response, deadline, caller } = input;
  const host = hop.url.host;
  const { maxBytes } = deps.limits;
  if (Number(response.headers.get("content-length") ?? 0) > maxBytes) {
    deadline.abort(undefined);
    throw outboundTooLarge(host, maxBytes);
  }
  const hasBody = response.body !== null && !NULL_BODY_STATUS.has(response.status);
  if (!hasBody) deadline.clear();
  const body = hasBody ? cappedBody({ body: response.body, deadline, caller, host, maxBytes }) : null;
  const answer = new Response(body, {
    status: response.status,
    statusText: response.statusText,
    headers: [...response.headers],
  });
  // A constructed Response has no address, and some clients resolve links against it.
  Object.defineProperty(answer, "url", { value: hop.url.href });
  return answer;
};

/** A `fetch` behind the guard, with these limits. Bodies of requests are held in memory, so that a redirect can repeat them. */
export const createOutboundFetch =
  (deps: FetchDeps): OutboundFetch =>
  async (input, init) => {
    const url = unwrap(deps.guard.checkSyntax(input instanceof Request ? input.url : input));
    const request = new Request(input instanceof Request ? input : url, init);
    const body = request.body === null ? undefined : new Uint8Array(await request.arrayBuffer());
    const caller = request.signal;
    const deadline = startDeadline({
      signal: caller,
      timeoutMs: deps.limits.timeoutMs,
      onTimeout: () => outboundTimedOut(url.host, deps.limits.timeoutMs),
    });
    try {
      const first: Hop = { url, method: request.method, headers: request.headers, body };
      const followed = await follow(deps, { first, redirect: request.redirect, deadline });
      return answerOf(deps, { ...followed, deadline, caller });
    } catch (thrown) {
      const error = asThrown(caller, deadline, url.host, thrown);
      deadline.abort(error);
      throw error;
    }
  };
