import { AppError, toAppError } from "@shaman/kernel";

import { billedUsageOf, isRetryableModelError, withBilledUsage } from "./model-error.ts";
import type { BilledUsage, Model, ModelAttempt, ModelEvent, ModelRequest } from "./model-port.ts";

export type ModelCandidate = {
  /** `provider/model`. */
  readonly name: string;
  readonly model: Model;
};

/** A provider that asks to wait no longer than this is waited for: the model that comes first in the list is preferred. */
const WORTH_WAITING_MS = 5_000;
const MAX_REASON_CHARS = 300;

/** Whether another provider may well answer what this one could not. */
const isWorthAnother = (error: AppError): boolean => {
  if (!isRetryableModelError(error)) return false;
  const waitsBriefly = error.retryAfterMs !== undefined && error.retryAfterMs <= WORTH_WAITING_MS;
  return !(error.code === "model_rate_limited" && waitsBriefly);
};

const attemptOf = (model: string, error: AppError): ModelAttempt => ({
  model,
  code: error.code,
  message: error.message.slice(0, MAX_REASON_CHARS),
});

/** The failure that passes soonest stands for all: a run that comes back then will find a model that answers. */
const failureOfAll = (failures: readonly AppError[]): AppError => {
  const [first, ...others] = failures.toSorted((a, b) => (a.retryAfterMs ?? Infinity) - (b.retryAfterMs ?? Infinity));
  if (first === undefined) throw new Error("A list of models has at least one.");
  if (others.length === 0) return first;
  return new AppError({
    code: first.code,
    kind: first.kind,
    message: `None of ${failures.length} models answered. ${failures.map((error) => error.message).join(" ")}`,
    ...(first.publicMessage !== undefined && { publicMessage: first.publicMessage }),
    ...(first.retryAfterMs !== undefined && { retryAfterMs: first.retryAfterMs }),
    cause: first,
  });
};

async function* answer(candidates: readonly ModelCandidate[], request: ModelRequest): AsyncGenerator<ModelEvent> {
  const tried: ModelAttempt[] = [];
  const failures: AppError[] = [];
  const billed: BilledUsage[] = [];
  for (const { name, model } of candidates) {
    let hasText = false;
    try {
      for await (const event of model.stream({ ...request, model: name })) {
        if (event.type === "done") yield withTried(event, tried, billed);
        else {
          hasText = true;
          yield event;
        }
      }
      return;
    } catch (thrown) {
      const error = toAppError(thrown);
      billed.push(...billedUsageOf(error));
      // What the caller has seen cannot become another model's answer.
      if (hasText || !isWorthAnother(error)) throw withBilledUsage(error, billed);
      tried.push(attemptOf(name, error));
      failures.push(error);
    }
  }
  throw withBilledUsage(failureOfAll(failures), billed);
}

const withTried = (
  done: Extract<ModelEvent, { type: "done" }>,
  tried: readonly ModelAttempt[],
  billed: readonly BilledUsage[],
): ModelEvent => {
  if (tried.length === 0) return done;
  return { ...done, billed: [...billed, ...(done.billed ?? [])], notes: { ...done.notes, tried } };
};

/**
 * Asks the models of a list in their order until one answers. The next one is asked where another provider may not have
 * the trouble of this one (away, broken, overloaded, silent, or limiting us for more than a moment), and only while
 * nothing of an answer has left. Everything else is thrown as it came.
 */
export const createFallbackModel = (candidates: readonly ModelCandidate[]): Model => ({
  stream: (request) => answer(candidates, request),
});
