import { AppError } from "@shaman/kernel";

import type { BilledUsage } from "./model-port.ts";

/** Every code a model call throws. */
export const MODEL_ERROR_CODES = [
  "model_rate_limited",
  "model_overloaded",
  "model_unavailable",
  "model_auth_failed",
  "model_request_invalid",
  "model_not_found",
  "model_unknown_provider",
  "model_aborted",
  "model_script_invalid",
  "model_script_no_match",
] as const;
export type ModelErrorCode = (typeof MODEL_ERROR_CODES)[number];

const RETRYABLE: ReadonlySet<string> = new Set<ModelErrorCode>([
  "model_rate_limited",
  "model_overloaded",
  "model_unavailable",
]);

/** Whether the same request may succeed later; how much later is `error.retryAfterMs`, when the provider said so. */
export const isRetryableModelError = (error: unknown): boolean =>
  error instanceof AppError && RETRYABLE.has(error.code);

const billed = new WeakMap<AppError, readonly BilledUsage[]>();

/** The same error, which from now on says what its call cost all the same. */
export const withBilledUsage = (error: AppError, usage: readonly BilledUsage[]): AppError => {
  if (usage.length > 0) billed.set(error, usage);
  return error;
};

/**
 * Tokens that providers counted for a call that then failed: a stream that was cut, an error in the middle, an abort.
 * They are paid for like any others. Where it was the caller who cut it, what the provider did not come to count is what it
 * is at least. Empty where nothing was counted.
 */
export const billedUsageOf = (error: unknown): readonly BilledUsage[] =>
  error instanceof AppError ? (billed.get(error) ?? []) : [];

/** The caller's signal was aborted before the answer was complete. */
export const modelAborted = (cause?: unknown): AppError =>
  new AppError({
    code: "model_aborted",
    kind: "operational",
    message: "The model call was aborted before its answer was complete.",
    ...(cause === undefined ? {} : { cause }),
  });

/** The provider could not be reached, broke off, or took too long; `message` says which. */
export const modelUnavailable = (message: string, cause?: unknown): AppError =>
  new AppError({
    code: "model_unavailable",
    kind: "operational",
    message,
    publicMessage: "The model's provider is not available at the moment. Try again shortly.",
    ...(cause === undefined ? {} : { cause }),
  });

export type ProviderFailure = {
  /** `provider/model` as requested. */
  readonly model: string;
  readonly status: number;
  /** What the provider said, already free of credentials. */
  readonly reason: string;
  readonly retryAfterMs?: number;
};

const HTTP_REQUEST_TIMEOUT = 408;
const HTTP_CONFLICT = 409;
const HTTP_TOO_MANY_REQUESTS = 429;
const HTTP_SERVER_ERROR = 500;
const HTTP_UNAVAILABLE = 503;
const HTTP_OVERLOADED = 529;

const codeOfStatus = (status: number): ModelErrorCode => {
  if (status === HTTP_TOO_MANY_REQUESTS) return "model_rate_limited";
  if (status === HTTP_OVERLOADED) return "model_overloaded";
  if (status === 401 || status === 403) return "model_auth_failed";
  if (status === 404) return "model_not_found";
  if (status >= HTTP_SERVER_ERROR) return "model_unavailable";
  if (status === HTTP_REQUEST_TIMEOUT || status === HTTP_CONFLICT) return "model_unavailable";
  return "model_request_invalid";
};

const advice: Record<string, string> = {
  model_rate_limited: "The provider limits the rate of requests.",
  model_overloaded: "The provider is overloaded.",
  model_unavailable: "The provider failed.",
  model_auth_failed: "The provider refused the credential: set a valid key for it.",
  model_not_found: "The provider does not know this model: check its name and the key's permissions.",
  model_request_invalid: "The provider refused the request.",
};

/** The error for an HTTP status that a provider answered with. */
export const modelErrorOfStatus = (failure: ProviderFailure): AppError => {
  // A 503 that names a time to come back is a full house, not a broken one.
  const isFull = failure.status === HTTP_UNAVAILABLE && failure.retryAfterMs !== undefined;
  const code = isFull ? "model_overloaded" : codeOfStatus(failure.status);
  const message = `${failure.model}: ${advice[code] ?? ""} (HTTP ${failure.status}: ${failure.reason})`;
  return new AppError({
    code,
    kind: RETRYABLE.has(code) ? "operational" : "user",
    message,
    details: { model: failure.model, status: failure.status },
    ...(failure.retryAfterMs === undefined ? {} : { retryAfterMs: failure.retryAfterMs }),
  });
};
