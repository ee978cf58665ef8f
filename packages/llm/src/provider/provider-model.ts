import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import type { LanguageModelV4, LanguageModelV4CallOptions, LanguageModelV4StreamPart } from "@ai-sdk/provider";
import { AppError, systemClock, type Clock, type JsonObject, type Secret } from "@shaman/kernel";
import { conceal } from "@shaman/outbound";

import { leastTokens } from "../least-tokens.ts";
import { IMAGE_TYPES, MEDIA_TYPES } from "../media.ts";
import { modelAborted, modelUnavailable, withBilledUsage } from "../model-error.ts";
import type { Model, ModelEvent, ModelMessage, ModelRequest } from "../model-port.ts";
import { createPhaseTimer, DEFAULT_MODEL_TIMEOUTS, type ModelTimeouts, type Phase } from "./phase-timer.ts";
import { createProviderAnswer } from "./provider-answer.ts";
import { isShown, type MediaSupport } from "./prompt-media.ts";
import { providerError, redactor } from "./provider-error.ts";
import { jsonSchemaOf, promptOf, toolsOf, type CacheMark } from "./provider-prompt.ts";
import { isStrictSchema } from "./strict-schema.ts";

export const PROVIDER_KINDS = ["openai", "anthropic", "openai-compatible"] as const;
export type ProviderKind = (typeof PROVIDER_KINDS)[number];

export type ProviderSettings = {
  readonly kind: ProviderKind;
  /** The first segment of the models' names. */
  readonly name: string;
  readonly baseUrl: string;
  /** Servers in a private network often want none. */
  readonly apiKey?: Secret;
  /** Requests that begin alike should reach the same cache: what this is equal for. At most 64 characters. */
  readonly promptCacheKey?: string;
};

export type ProviderDeps = {
  /** The guarded way out, with limits that suit a long stream. */
  readonly fetch: typeof globalThis.fetch;
  readonly timeouts?: Partial<ModelTimeouts>;
  readonly clock?: Clock;
};

/** OpenAI caches by itself; Anthropic caches what stands before a mark. */
const CACHE_MARKS: Record<ProviderKind, CacheMark | undefined> = {
  openai: undefined,
  anthropic: { anthropic: { cacheControl: { type: "ephemeral" } } },
  "openai-compatible": undefined,
};

/** As the installed SDK writes requests: of the three, Anthropic's alone takes more than text in a tool's result. */
const MEDIA: Record<ProviderKind, MediaSupport> = {
  openai: { types: MEDIA_TYPES, inResults: false },
  anthropic: { types: MEDIA_TYPES, inResults: true },
  "openai-compatible": { types: IMAGE_TYPES, inResults: false },
};
const NO_MEDIA: MediaSupport = { types: new Set(), inResults: false };

/** How providers say that they do not take what was sent; one that routes to others does not find any that would. */
const MAY_MEAN_MEDIA: ReadonlySet<string> = new Set(["model_request_invalid", "model_not_found"]);
const MAX_REASON_CHARS = 300;

const PHASE_TEXT: Record<Phase, string> = {
  headers: "did not begin to answer",
  firstToken: "accepted the request and then said nothing",
  idle: "stopped in the middle of its answer",
};

/** A key is always given, if only an empty one: the SDK would otherwise look into the process's environment. */
const languageModel = (
  settings: ProviderSettings,
  modelName: string,
  fetch: typeof globalThis.fetch,
): LanguageModelV4 => {
  const { name, baseUrl: baseURL } = settings;
  const apiKey = settings.apiKey?.reveal() ?? "";
  switch (settings.kind) {
    case "openai":
      return createOpenAI({ baseURL, apiKey, fetch }).chat(modelName);
    case "anthropic":
      return createAnthropic({ baseURL, apiKey, fetch })(modelName);
    case "openai-compatible":
      return createOpenAICompatible({ name, baseURL, fetch, includeUsage: true, ...(apiKey !== "" && { apiKey }) })(
        modelName,
      );
  }
};

/** Who is asked, and what of images and documents it is shown. */
type Asked = { readonly settings: ProviderSettings; readonly media: MediaSupport };

const callOptions = (
  { settings, media }: Asked,
  request: ModelRequest,
  abortSignal: AbortSignal,
): LanguageModelV4CallOptions => ({
  prompt: promptOf(messagesFor(settings.kind, request), { media, mark: CACHE_MARKS[settings.kind] }),
  ...(request.tools.length > 0 && { tools: toolsOf(request.tools, CACHE_MARKS[settings.kind]) }),
  ...(isNative(settings.kind, request.outputSchema) && { responseFormat: responseFormat(request.outputSchema) }),
  providerOptions: providerOptions(settings, request),
  ...(request.temperature !== undefined && { temperature: request.temperature }),
  ...(request.maxOutputTokens !== undefined && { maxOutputTokens: request.maxOutputTokens }),
  // The usage of an answer that breaks off is in the raw chunks alone.
  includeRawChunks: true,
  abortSignal,
});

const responseFormat = (schema: JsonObject): NonNullable<LanguageModelV4CallOptions["responseFormat"]> => ({
  type: "json",
  schema: jsonSchemaOf(schema),
  name: "answer",
});

/**
 * Providers hold a model to the schema of an object. Servers that only look like OpenAI differ in what they take (schemas,
 * JSON without tools, neither), and refuse a request for the rest of it.
 */
const isNative = (kind: ProviderKind, schema: JsonObject | undefined): schema is JsonObject =>
  kind !== "openai-compatible" && schema?.type === "object";

/** Where the provider cannot hold it to the schema, the model is told. */
const messagesFor = (kind: ProviderKind, request: ModelRequest): readonly ModelMessage[] => {
  if (request.outputSchema === undefined || isNative(kind, request.outputSchema)) return request.messages;
  const schema = JSON.stringify(request.outputSchema);
  const text = `When you give your final answer, write one JSON value that fits this JSON Schema, and nothing else: ${schema}`;
  return [{ role: "system", text }, ...request.messages];
};

const providerOptions = (
  settings: ProviderSettings,
  request: ModelRequest,
): NonNullable<LanguageModelV4CallOptions["providerOptions"]> => {
  if (settings.kind !== "openai") return {};
  const { promptCacheKey } = settings;
  return {
    openai: {
      ...(promptCacheKey !== undefined && { promptCacheKey }),
      ...(request.outputSchema !== undefined && { strictJsonSchema: isStrictSchema(request.outputSchema) }),
    },
  };
};

/** Parts that show that the model is answering, though they may not reach the caller. */
const isContent = (part: LanguageModelV4StreamPart): boolean =>
  part.type === "text-delta" || part.type === "reasoning-delta" || part.type === "tool-input-start";

async function* answer(deps: ProviderDeps, asked: Asked, request: ModelRequest): AsyncGenerator<ModelEvent> {
  const { settings } = asked;
  const { signal, model } = request;
  const stop = new AbortController();
  const follow = (): void => stop.abort(signal.reason);
  const timer = createPhaseTimer({ ...DEFAULT_MODEL_TIMEOUTS, ...deps.timeouts }, (phase, timeoutMs) =>
    stop.abort(modelUnavailable(`${model}: its provider ${PHASE_TEXT[phase]} within ${timeoutMs} ms.`)),
  );
  let isAccepted = false;
  const fetch: typeof globalThis.fetch = async (input, init) => {
    const response = await deps.fetch(input, init);
    timer.enter("firstToken");
    isAccepted = response.ok;
    return conceal(response, settings.apiKey === undefined ? [] : [settings.apiKey.reveal()]);
  };
  let reader: ReadableStreamDefaultReader<LanguageModelV4StreamPart> | undefined;
  const collected = createProviderAnswer(model);
  try {
    signal.throwIfAborted();
    signal.addEventListener("abort", follow, { once: true });
    timer.start();
    const started = await languageModel(settings, model.slice(model.indexOf("/") + 1), fetch).doStream(
      callOptions(asked, request, stop.signal),
    );
    reader = started.stream.getReader();
    for (;;) {
      timer.start();
      const { done, value } = await reader.read();
      timer.stop();
      if (done) throw modelUnavailable(`${model}: the stream ended before the answer was complete.`);
      if (isContent(value)) timer.enter("idle");
      const event = collected.take(value);
      if (event !== undefined) yield event;
      if (event?.type === "done") return;
    }
  } catch (thrown) {
    if (signal.aborted) {
      // Whoever is hung up on charges for what was asked and written until then, and most have not counted it yet.
      const billed = isAccepted ? collected.billedAtLeast(leastTokens(request.messages)) : [];
      throw withBilledUsage(modelAborted(signal.reason), billed);
    }
    const redact = redactor(settings.apiKey === undefined ? [] : [settings.apiKey.reveal()]);
    const now = (deps.clock ?? systemClock).now;
    const error = providerError({ model, redact, now }, stop.signal.aborted ? stop.signal.reason : thrown);
    throw withBilledUsage(error, collected.billed());
  } finally {
    timer.stop();
    signal.removeEventListener("abort", follow);
    // A consumer that left early must not leave the provider writing.
    stop.abort(modelAborted());
    reader?.cancel().catch(() => undefined);
  }
}

const isRefusal = (error: unknown): error is AppError => error instanceof AppError && MAY_MEAN_MEDIA.has(error.code);

/**
 * A model behind a provider's HTTP API: one step per call, no retries of its own. Errors carry what the provider said,
 * never the key. Whether a model takes images nobody can tell by its name: a request that is refused with them is asked
 * once more with a line of text in the place of each, and so are all that follow.
 */
export const createProviderModel = (deps: ProviderDeps, settings: ProviderSettings): Model => {
  const media = MEDIA[settings.kind];
  let refused: string | undefined;

  async function* stream(request: ModelRequest): AsyncGenerator<ModelEvent> {
    const shows = request.messages.some((message) => isShown(message, media));
    if (refused === undefined || !shows) {
      let hasBegun = false;
      try {
        for await (const event of answer(deps, { settings, media }, request)) {
          hasBegun = true;
          yield event;
        }
        return;
      } catch (error) {
        if (!shows || hasBegun || !isRefusal(error)) throw error;
        refused = error.message.slice(0, MAX_REASON_CHARS);
      }
    }
    for await (const event of answer(deps, { settings, media: NO_MEDIA }, request)) {
      yield event.type === "done" ? { ...event, notes: { ...event.notes, mediaRefused: refused } } : event;
    }
  }
  return { stream };
};
