import { pipeline, type Readable, type Transform } from "node:stream";
import { createBrotliDecompress, createGunzip, createInflate } from "node:zlib";
import { unwrap, type AppError } from "@shaman/kernel";
import { request as undiciRequest, type Dispatcher } from "undici";

import { startDeadline, type Deadline } from "./deadline.ts";
import type { Guard } from "./guard.ts";
import {
  appErrorIn,
  failedAfterAnswer,
  outboundFailed,
  outboundRefused,
  outboundTimedOut,
  outboundTooLarge,
} from "./outbound-error.ts";
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

export type FetchDeps = { readonly guard: Guard; readonly dispatcher: Dispatcher; readonly limits: OutboundLimits };

const NULL_BODY_STATUS: ReadonlySet<number> = new Set([204, 205, 304]);

/** What a failed step is called: the caller's own abort stays as it is. */
const asThrown = (caller: AbortSignal, deadline: Deadline, host: string, thrown: unknown): unknown => {
  if (caller.aborted) return caller.reason;
  return appErrorIn(deadline.signal.reason) ?? appErrorIn(thrown) ?? outboundFailed(host, thrown);
};

/** Passes the body on, counting; whichever way it ends, the clock stops with it. */
const cappedBody = (input: {
  readonly body: Readable;
  readonly deadline: Deadline;
  readonly caller: AbortSignal;
  readonly host: string;
  readonly maxBytes: number;
}): ReadableStream<Uint8Array> => {
  const { deadline, caller, host, maxBytes } = input;
  const pieces: AsyncIterator<Uint8Array> = input.body[Symbol.asyncIterator]();
  let bytes = 0;
  return new ReadableStream<Uint8Array>({
    pull: async (controller) => {
      try {
        const { done, value } = await pieces.next();
        if (done === true) {
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

type Answer = { readonly status: number; readonly headers: Headers; readonly body: Readable };

const DECODERS: Readonly<Record<string, () => Transform>> = {
  gzip: createGunzip,
  "x-gzip": createGunzip,
  deflate: createInflate,
  br: createBrotliDecompress,
};

/** The body as it was before it was compressed; what breaks on the way is thrown where it is read. */
const decoded = (body: Readable, encoding: string | null): Readable => {
  const decoder = DECODERS[encoding?.trim().toLowerCase() ?? ""];
  return decoder === undefined ? body : pipeline(body, decoder(), () => undefined);
};

const ASKED = { accept: "*/*", "accept-encoding": "gzip, deflate, br" };

/** Not by `fetch`: that refuses ports of its own choice, where the guard has decided already. */
const send = async ({ dispatcher }: FetchDeps, hop: Hop, { signal }: Deadline): Promise<Answer> => {
  const { method, headers, body = null } = hop;
  const sent = { ...ASKED, ...Object.fromEntries(headers) };
  const answer = await undiciRequest(hop.url, { method, headers: sent, body, signal, dispatcher });
  // What breaks in it is thrown where it is read, and a body that nobody reads may break.
  answer.body.on("error", () => undefined);
  const received = new Headers();
  for (const [name, value = []] of Object.entries(answer.headers)) {
    for (const each of [value].flat()) received.append(name, each);
  }
  return { status: answer.statusCode, headers: received, body: decoded(answer.body, received.get("content-encoding")) };
};

const refuseRedirect = (host: string): AppError =>
  outboundRefused("redirect", `${host} answers with a redirect, which is not followed here: use the final address.`);

/** Sends the first hop and follows redirects by hand, each through the guard. */
const follow = async (
  deps: FetchDeps,
  input: { readonly first: Hop; readonly redirect: Request["redirect"]; readonly deadline: Deadline },
): Promise<{ readonly hop: Hop; readonly response: Answer }> => {
  let hop = input.first;
  for (let redirects = 0; ; redirects += 1) {
    const response = await send(deps, hop, input.deadline).catch((thrown: unknown) => {
      // A request that a redirect has turned into a GET was taken: whoever sends it again should know.
      throw hop.method === input.first.method ? thrown : failedAfterAnswer(hop.url.host, thrown);
    });
    if (!isRedirect(response.status) || input.redirect === "manual") return { hop, response };
    response.body.destroy();
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
    readonly response: Answer;
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
  const hasBody = hop.method !== "HEAD" && !NULL_BODY_STATUS.has(response.status);
  if (!hasBody) deadline.clear();
  const body = hasBody ? cappedBody({ body: response.body, deadline, caller, host, maxBytes }) : null;
  const answer = new Response(body, {
    status: response.status,
    headers: response.headers,
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
