import type { OpenedExternalAgent } from "@shaman/external";
import { AppError, unwrap } from "@shaman/kernel";
import { conceal, type Outbound } from "@shaman/outbound";
import { isNestedDeeper } from "../proto-json.ts";
import { readSse } from "../sse.ts";
import type { Dialect, WireRequest } from "./dialect.ts";
import { answerInvalid, answerTooLarge, externalError } from "./external-error.ts";
import { foreignError } from "./foreign-error.ts";

/** How much an outside agent may send, and how long it may stay silent. */
export type WireLimits = {
  /** Of one answer, a whole stream included. */
  readonly maxAnswerBytes: number;
  readonly maxEventBytes: number;
  /** Until the headers of a stream. */
  readonly headersMs: number;
  /** Between two pieces of a stream, keep-alive comments included. */
  readonly idleMs: number;
  /** Of a request that is no stream, from its beginning to its end. */
  readonly requestMs: number;
};

export type Wire = {
  readonly outbound: Pick<Outbound, "fetchWith">;
  readonly agent: Pick<OpenedExternalAgent, "credentialHeaders" | "credentialRefused">;
  readonly dialect: Dialect;
  readonly limits: WireLimits;
  /** Headers of ours, such as traceparent. */
  readonly extraHeaders: Readonly<Record<string, string>>;
};

/** The results inside one answer: of a stream one an event, else a single one. */
export type WireAnswer = AsyncGenerator<unknown, void, undefined>;

const MAX_REDIRECTS = 3;
const MAX_ERROR_CHARS = 100_000;
const MAX_DEPTH = 100;
const MAX_RETRY_AFTER_MS = 60 * 60_000;

const retryAfterMsOf = (headers: Headers): number | undefined => {
  const text = headers.get("retry-after")?.trim();
  if (text === undefined || text === "") return undefined;
  const ms = /^\d{1,9}$/.test(text) ? Number(text) * 1_000 : Date.parse(text) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(0, ms), MAX_RETRY_AFTER_MS);
};

const parseJson = (text: string): unknown => {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw answerInvalid("it is not JSON");
  }
  if (isNestedDeeper(value, MAX_DEPTH)) throw answerInvalid(`it is nested more than ${MAX_DEPTH} deep`);
  return value;
};

const jsonOrNothing = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};

/** A signal that also fires when nothing has come for a while. */
const createWatch = (outer: AbortSignal) => {
  const controller = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const follow = (): void => controller.abort(outer.reason);
  if (outer.aborted) follow();
  else outer.addEventListener("abort", follow, { once: true });
  return {
    signal: controller.signal,
    expectWithin: (ms: number, what: string): void => {
      clearTimeout(timer);
      const message = `The agent sent no ${what} within ${ms} ms.`;
      const error = externalError({ code: "external_timed_out", message, delivered: "maybe" });
      timer = setTimeout(() => controller.abort(error), ms);
    },
    close: (): void => {
      clearTimeout(timer);
      outer.removeEventListener("abort", follow);
    },
  };
};

const fetchOnce = async (
  wire: Wire,
  request: WireRequest,
  input: { readonly signal: AbortSignal; readonly timeoutMs: number },
): Promise<Response> => {
  const credential = unwrap(await wire.agent.credentialHeaders());
  const { "content-type": contentType = "application/json", ...headers } = wire.dialect.headers;
  const json = "application/json, application/a2a+json";
  const limits = { timeoutMs: input.timeoutMs, maxBytes: wire.limits.maxAnswerBytes, maxRedirects: MAX_REDIRECTS };
  const answer = await wire.outbound.fetchWith(limits)(request.url, {
    method: request.method,
    headers: {
      ...wire.extraHeaders,
      ...headers,
      accept: request.stream ? `text/event-stream, ${json}` : json,
      ...(request.body !== undefined && { "content-type": contentType }),
      ...credential,
    },
    ...(request.body !== undefined && { body: JSON.stringify(request.body) }),
    signal: input.signal,
  });
  return conceal(answer, Object.values(credential));
};

const refusal = async (response: Response): Promise<AppError> => {
  const text = (await response.text()).slice(0, MAX_ERROR_CHARS);
  return foreignError({
    body: jsonOrNothing(text),
    httpStatus: response.status,
    retryAfterMs: retryAfterMsOf(response.headers),
  });
};

/** The answer of a request that was accepted. A credential that can be had anew is, once. */
const fetchAccepted = async (
  wire: Wire,
  request: WireRequest,
  input: { readonly signal: AbortSignal; readonly timeoutMs: number },
): Promise<Response> => {
  let response = await fetchOnce(wire, request, input);
  if (response.status === 401 && wire.agent.credentialRefused()) {
    await response.body?.cancel();
    response = await fetchOnce(wire, request, input);
  }
  if (response.status < 200 || response.status > 299) throw await refusal(response);
  return response;
};

const isEventStream = (response: Response): boolean =>
  /^text\/event-stream\b/i.test(response.headers.get("content-type") ?? "");

async function* streamed(
  wire: Wire,
  request: WireRequest,
  input: { readonly signal: AbortSignal; readonly timeoutMs: number },
): WireAnswer {
  const watch = createWatch(input.signal);
  const { limits } = wire;
  try {
    watch.expectWithin(limits.headersMs, "answer");
    const response = await fetchAccepted(wire, request, { ...input, signal: watch.signal });
    if (!isEventStream(response) || response.body === null) {
      // An agent that does not stream after all, or its error.
      yield request.unwrap(parseJson(await response.text()));
      return;
    }
    for await (const data of readSse(alive(response.body, watch, limits.idleMs), limits.maxEventBytes)) {
      yield request.unwrap(parseJson(data));
    }
  } catch (thrown) {
    if (thrown instanceof RangeError) throw answerTooLarge(`one event has more than ${limits.maxEventBytes} bytes`);
    throw thrown;
  } finally {
    watch.close();
  }
}

async function* alive(
  body: ReadableStream<Uint8Array>,
  watch: ReturnType<typeof createWatch>,
  idleMs: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  watch.expectWithin(idleMs, "further event");
  for await (const chunk of body) {
    yield chunk;
    watch.expectWithin(idleMs, "further event");
  }
}

async function* single(
  wire: Wire,
  request: WireRequest,
  input: { readonly signal: AbortSignal; readonly timeoutMs: number },
): WireAnswer {
  const timeoutMs = Math.min(input.timeoutMs, wire.limits.requestMs);
  const response = await fetchAccepted(wire, request, { ...input, timeoutMs });
  yield request.unwrap(parseJson(await response.text()));
}

const sized = (error: AppError): AppError =>
  error.code === "outbound_too_large" ? answerTooLarge(error.message) : error;

/**
 * Sends a request through the guard, authenticated, and gives the results in its answer. Everything that can go wrong is
 * thrown as an AppError whose `deliveredOf` says whether the agent may have got the request; the caller's own abort as its
 * reason. A redirect to another origin takes neither body nor credential along.
 */
export async function* sendWire(
  wire: Wire,
  request: WireRequest,
  input: { readonly signal: AbortSignal; readonly timeoutMs: number },
): WireAnswer {
  try {
    yield* request.stream ? streamed(wire, request, input) : single(wire, request, input);
  } catch (thrown) {
    if (thrown instanceof AppError) throw sized(thrown);
    throw thrown;
  }
}

/** The one result of a request that is no stream. */
export const sendOnce = async (
  wire: Wire,
  request: WireRequest,
  input: { readonly signal: AbortSignal; readonly timeoutMs: number },
): Promise<unknown> => {
  for await (const result of sendWire(wire, request, input)) return result;
  throw answerInvalid("it is empty");
};
