import { AppError } from "@shaman/kernel";

import { modelErrorOfStatus, modelUnavailable } from "../model-error.ts";
import { retryAfterMsOf } from "./retry-after.ts";

const MAX_REASON_CHARS = 500;
const FIRST_ERROR_STATUS = 400;
const LAST_ERROR_STATUS = 599;

/** Errors of the SDK that mean our request cannot be expressed, thrown before anything was sent. */
const REQUEST_ERRORS: ReadonlySet<string> = new Set([
  "AI_InvalidPromptError",
  "AI_InvalidArgumentError",
  "AI_UnsupportedFunctionalityError",
]);

export type ErrorContext = {
  /** `provider/model` as requested. */
  readonly model: string;
  /** Takes the credential out of a text. */
  readonly redact: (text: string) => string;
  readonly now: () => number;
};

/** Takes every credential in `values` out of a text. */
export const redactor =
  (values: readonly string[]) =>
  (text: string): string =>
    values.reduce((rest, value) => (value === "" ? rest : rest.replaceAll(value, "[secret]")), text);

const fieldOf = (thrown: unknown, name: string): unknown =>
  typeof thrown === "object" && thrown !== null ? Object.getOwnPropertyDescriptor(thrown, name)?.value : undefined;

/** The HTTP status of an error, or the one that a provider names inside its stream. */
const statusOf = (thrown: unknown): number | undefined =>
  [fieldOf(thrown, "statusCode"), fieldOf(thrown, "code")].find(
    (status): status is number =>
      typeof status === "number" && status >= FIRST_ERROR_STATUS && status <= LAST_ERROR_STATUS,
  );

const headersOf = (thrown: unknown): Record<string, string> => {
  const headers = fieldOf(thrown, "responseHeaders");
  const texts = Object.entries(typeof headers === "object" && headers !== null ? headers : {}).flatMap(
    ([name, value]) => (typeof value === "string" ? [[name.toLowerCase(), value] as const] : []),
  );
  return Object.fromEntries(texts);
};

const reasonOf = (thrown: unknown, redact: ErrorContext["redact"]): string => {
  const message = typeof thrown === "string" ? thrown : fieldOf(thrown, "message");
  const text = redact(typeof message === "string" && message !== "" ? message : "no reason given");
  return text.length > MAX_REASON_CHARS ? `${text.slice(0, MAX_REASON_CHARS)}…` : text;
};

/** The SDK's errors hold whole requests and answers: only a name and a sentence may travel on as the cause. */
const harmlessCause = (thrown: unknown, reason: string): Error => {
  const name = thrown instanceof Error ? thrown.name : "Error";
  return new Error(`${name}: ${reason}`);
};

const appErrorIn = (thrown: unknown): AppError | undefined => {
  let current = thrown;
  for (let depth = 0; depth < 5 && current instanceof Error; depth += 1) {
    if (current instanceof AppError) return current;
    current = current.cause;
  }
  return undefined;
};

/** The error of the port for whatever a provider, the SDK or the network threw. */
export const providerError = (context: ErrorContext, thrown: unknown): AppError => {
  const { model, redact, now } = context;
  const own = appErrorIn(thrown);
  if (own?.code.startsWith("model_")) return own;
  const reason = reasonOf(own ?? thrown, redact);
  if (own?.code === "outbound_refused") {
    return new AppError({
      code: "model_request_invalid",
      kind: "user",
      message: `${model}: the address of its provider is not allowed. ${reason}`,
      cause: own,
    });
  }
  const status = statusOf(thrown);
  if (status !== undefined) {
    const retryAfterMs = retryAfterMsOf(headersOf(thrown), now());
    return modelErrorOfStatus({ model, status, reason, ...(retryAfterMs !== undefined && { retryAfterMs }) });
  }
  if (thrown instanceof Error && REQUEST_ERRORS.has(thrown.name)) {
    return new AppError({
      code: "model_request_invalid",
      kind: "user",
      message: `${model}: the request cannot be sent to this model. ${reason}`,
      cause: harmlessCause(thrown, reason),
    });
  }
  return modelUnavailable(`${model}: ${reason}`, own ?? harmlessCause(thrown, reason));
};
