import { AppError } from "@shaman/kernel";
import { momentarilyUnconnected, neverConnected } from "../never-connected.ts";

/**
 * Whether a message reached the agent when its sending failed. `no`: it certainly did not, or was refused as a whole, and
 * may be sent again. `maybe`: nobody knows.
 */
export type Delivered = "no" | "maybe";

export type ExternalErrorCode =
  /** The answer breaks A2A, or belongs to something that was not asked for. */
  | "external_answer_invalid"
  | "external_answer_too_large"
  | "external_unauthenticated"
  | "external_forbidden"
  | "external_busy"
  | "external_unavailable"
  | "external_timed_out"
  /** The agent refused the message; its own words are in the error's message. */
  | "external_refused"
  | "external_task_not_found"
  | "external_task_not_cancelable"
  | "external_unsupported_operation"
  /** What is at the interface's address does not speak the binding and version that the card says. */
  | "external_binding_unsupported"
  /** After a crash: a message was sent, nothing is known of it, and the agent may not be asked twice. */
  | "external_outcome_unknown";

const KINDS: Readonly<Record<ExternalErrorCode, AppError["kind"]>> = {
  external_answer_invalid: "user",
  external_answer_too_large: "user",
  external_unauthenticated: "user",
  external_forbidden: "user",
  external_busy: "operational",
  external_unavailable: "operational",
  external_timed_out: "operational",
  external_refused: "user",
  external_task_not_found: "user",
  external_task_not_cancelable: "user",
  external_unsupported_operation: "user",
  external_binding_unsupported: "user",
  external_outcome_unknown: "user",
};

export type ExternalErrorFields = {
  readonly code: ExternalErrorCode;
  readonly message: string;
  readonly delivered: Delivered;
  readonly retryAfterMs?: number | undefined;
  readonly cause?: unknown;
};

/** An error of a call outside. None of it is a fault of ours: `user` is for whoever wrote or registered the agent. */
export const externalError = ({ code, message, delivered, retryAfterMs, cause }: ExternalErrorFields): AppError =>
  new AppError({
    code,
    kind: KINDS[code],
    message,
    publicMessage: message,
    details: { delivered },
    ...(retryAfterMs !== undefined && { retryAfterMs }),
    ...(cause !== undefined && { cause }),
  });

export const answerInvalid = (why: string): AppError =>
  externalError({
    code: "external_answer_invalid",
    message: `The agent's answer is not A2A: ${why}.`,
    delivered: "maybe",
  });

export const answerTooLarge = (why: string): AppError =>
  externalError({
    code: "external_answer_too_large",
    message: `The agent's answer is too large: ${why}.`,
    delivered: "maybe",
  });

/** Whether an error of the way out means that no connection was made, or none that was trusted. */
const isUnconnected = (error: AppError): boolean => error.details?.["answered"] !== true && neverConnected(error);

/** Whether there was no connection, so that nothing was processed, and there may soon be one. */
export const isMomentarilyAway = (error: AppError): boolean => isUnconnected(error) && momentarilyUnconnected(error);

/** What is known about the message after this error. */
export const deliveredOf = (error: AppError): Delivered => {
  const told = error.details?.["delivered"];
  if (told === "no" || told === "maybe") return told;
  // What the guard, the registry or the token endpoint refused never left us.
  if (error.code === "outbound_refused" || /^(?:external_|secret_)/.test(error.code)) return "no";
  return isUnconnected(error) ? "no" : "maybe";
};

/** Whether the interface is not there, or is not what the card says, so that another one may be tried instead. */
export const saysNothingIsThere = (error: AppError): boolean =>
  deliveredOf(error) === "no" && (error.code === "external_binding_unsupported" || isUnconnected(error));

/** Whether asking again may help: the agent is away or busy, or the connection broke. */
export const isTransient = (error: AppError): boolean => error.kind === "operational";
