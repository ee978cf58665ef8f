import type { AppError } from "@shaman/kernel";
import { isObject } from "../proto-json.ts";
import { externalError, type Delivered, type ExternalErrorCode } from "./external-error.ts";

type Meaning = { readonly code: ExternalErrorCode; readonly delivered: Delivered };

const REFUSED: Meaning = { code: "external_refused", delivered: "no" };
const UNSPOKEN: Meaning = { code: "external_binding_unsupported", delivered: "no" };
const AWAY: Meaning = { code: "external_unavailable", delivered: "maybe" };

const BY_REASON: Readonly<Record<string, Meaning>> = {
  TASK_NOT_FOUND: { code: "external_task_not_found", delivered: "no" },
  TASK_NOT_CANCELABLE: { code: "external_task_not_cancelable", delivered: "no" },
  UNSUPPORTED_OPERATION: { code: "external_unsupported_operation", delivered: "no" },
  VERSION_NOT_SUPPORTED: UNSPOKEN,
};

const BY_RPC_CODE: ReadonlyMap<number, Meaning> = new Map([
  [-32001, { code: "external_task_not_found", delivered: "no" }],
  [-32002, { code: "external_task_not_cancelable", delivered: "no" }],
  [-32004, { code: "external_unsupported_operation", delivered: "no" }],
  [-32009, UNSPOKEN],
  [-32601, UNSPOKEN],
  [-32603, AWAY],
]);

/** Nobody at this address knows such a path, method or body. */
const NOT_SPOKEN_STATUSES: ReadonlySet<number> = new Set([404, 405, 415, 501]);

const byStatus = (status: number): Meaning => {
  if (status === 401) return { code: "external_unauthenticated", delivered: "no" };
  if (status === 403) return { code: "external_forbidden", delivered: "no" };
  if (status === 429) return { code: "external_busy", delivered: "no" };
  if (status === 503) return { code: "external_unavailable", delivered: "no" };
  if (NOT_SPOKEN_STATUSES.has(status)) return UNSPOKEN;
  return status >= 500 ? AWAY : REFUSED;
};

const MAX_SAID_CHARS = 300;
const MAX_DETAILS = 20;

/** Foreign words inside a sentence of ours: short, one line, quoted. */
const quoted = (text: unknown): string =>
  typeof text === "string" && text.trim() !== ""
    ? ` It says: ${JSON.stringify(
        text
          .replace(/\p{Cc}+/gu, " ")
          .trim()
          .slice(0, MAX_SAID_CHARS),
      )}`
    : "";

/** `reason` of google.rpc.ErrorInfo, which decides before any number (A2A 1.0.0 and 1.0.1 differ in those). */
const reasonOf = (details: unknown): string | undefined => {
  if (!Array.isArray(details)) return undefined;
  for (const detail of details.slice(0, MAX_DETAILS)) {
    if (isObject(detail) && typeof detail.reason === "string") return detail.reason;
  }
  return undefined;
};

/**
 * The error that an agent answered, as JSON-RPC has it (`{code, message, data}`), or as HTTP has it (`{code, status,
 * message, details}`), or 0.3's HTTP form (`{code, message}` without a wrapper). `httpStatus` is that of the answer.
 */
export const foreignError = (input: {
  readonly body: unknown;
  readonly httpStatus: number;
  readonly retryAfterMs?: number | undefined;
}): AppError => {
  const { body, httpStatus, retryAfterMs } = input;
  const wrapped = isObject(body) && isObject(body.error) ? body.error : body;
  const fields = isObject(wrapped) ? wrapped : {};
  const reason = reasonOf(fields.data) ?? reasonOf(fields.details);
  const rpcCode = typeof fields.code === "number" ? fields.code : undefined;
  const known =
    (reason !== undefined && Object.hasOwn(BY_REASON, reason) ? BY_REASON[reason] : undefined) ??
    (rpcCode === undefined ? undefined : BY_RPC_CODE.get(rpcCode));
  const meaning = known ?? (httpStatus >= 400 ? byStatus(httpStatus) : REFUSED);
  const which = reason ?? (rpcCode !== undefined && rpcCode < 0 ? `error ${rpcCode}` : `status ${httpStatus}`);
  return externalError({
    ...meaning,
    message: `The agent answered ${which.slice(0, 100)}.${quoted(fields.message)}`,
    retryAfterMs,
  });
};
