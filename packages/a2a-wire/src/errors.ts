import { publicMessageOf, type AppError, type ErrorKind } from "@shaman/kernel";

type Encoding = {
  /** JSON-RPC error code (A2A 1.0.1 §5.4, §9.5). */
  readonly rpcCode: number;
  readonly httpStatus: number;
  /** Name in google.rpc.Code. */
  readonly status: string;
};

/** Not one of A2A's numbers, and free of those later versions will take. */
const OWN_CODE = -32000;

const BY_CODE: Readonly<Record<string, Encoding>> = {
  parse_error: { rpcCode: -32700, httpStatus: 400, status: "INVALID_ARGUMENT" },
  invalid_request: { rpcCode: -32600, httpStatus: 400, status: "INVALID_ARGUMENT" },
  method_not_found: { rpcCode: -32601, httpStatus: 404, status: "UNIMPLEMENTED" },
  invalid_params: { rpcCode: -32602, httpStatus: 400, status: "INVALID_ARGUMENT" },
  message_id_reused: { rpcCode: -32602, httpStatus: 400, status: "INVALID_ARGUMENT" },
  task_not_found: { rpcCode: -32001, httpStatus: 404, status: "NOT_FOUND" },
  task_not_cancelable: { rpcCode: -32002, httpStatus: 400, status: "FAILED_PRECONDITION" },
  push_notification_not_supported: { rpcCode: -32003, httpStatus: 400, status: "FAILED_PRECONDITION" },
  unsupported_operation: { rpcCode: -32004, httpStatus: 400, status: "FAILED_PRECONDITION" },
  task_not_waiting: { rpcCode: -32004, httpStatus: 400, status: "FAILED_PRECONDITION" },
  content_type_not_supported: { rpcCode: -32005, httpStatus: 400, status: "INVALID_ARGUMENT" },
  extended_agent_card_not_configured: { rpcCode: -32007, httpStatus: 400, status: "FAILED_PRECONDITION" },
  version_not_supported: { rpcCode: -32009, httpStatus: 400, status: "FAILED_PRECONDITION" },
  unauthenticated: { rpcCode: OWN_CODE, httpStatus: 401, status: "UNAUTHENTICATED" },
  forbidden: { rpcCode: OWN_CODE, httpStatus: 403, status: "PERMISSION_DENIED" },
  agent_not_found: { rpcCode: OWN_CODE, httpStatus: 404, status: "NOT_FOUND" },
  organization_not_found: { rpcCode: OWN_CODE, httpStatus: 404, status: "NOT_FOUND" },
  artifact_not_found: { rpcCode: OWN_CODE, httpStatus: 404, status: "NOT_FOUND" },
  range_not_satisfiable: { rpcCode: OWN_CODE, httpStatus: 416, status: "OUT_OF_RANGE" },
  not_found: { rpcCode: OWN_CODE, httpStatus: 404, status: "NOT_FOUND" },
  body_too_large: { rpcCode: OWN_CODE, httpStatus: 413, status: "INVALID_ARGUMENT" },
  media_type_not_supported: { rpcCode: -32005, httpStatus: 415, status: "INVALID_ARGUMENT" },
  too_many_requests: { rpcCode: OWN_CODE, httpStatus: 429, status: "RESOURCE_EXHAUSTED" },
  internal_token_misdirected: { rpcCode: OWN_CODE, httpStatus: 421, status: "UNAUTHENTICATED" },
  internal_token_invalid: { rpcCode: OWN_CODE, httpStatus: 401, status: "UNAUTHENTICATED" },
};

const BY_KIND: Readonly<Record<ErrorKind, Encoding>> = {
  user: { rpcCode: -32602, httpStatus: 400, status: "INVALID_ARGUMENT" },
  operational: { rpcCode: -32603, httpStatus: 503, status: "UNAVAILABLE" },
  unexpected: { rpcCode: -32603, httpStatus: 500, status: "INTERNAL" },
};

/** A2A's own name for an error, where one of ours is a case of it. */
const REASONS: Readonly<Record<string, string>> = { task_not_waiting: "UNSUPPORTED_OPERATION" };

export const encodingOf = (error: AppError): Encoding => BY_CODE[error.code] ?? BY_KIND[error.kind];

/**
 * The HTTP status of a JSON-RPC answer with this error: one of its own for what happens before the method is reached, and
 * when we are away; else 200, because JSON-RPC itself carried the request (A2A 1.0.1 §9.5).
 */
export const rpcHttpStatusOf = (error: AppError): number => {
  const { rpcCode, httpStatus } = encodingOf(error);
  if (error.kind === "operational") return 503;
  return rpcCode === OWN_CODE || error.code === "media_type_not_supported" ? httpStatus : 200;
};

export type FieldViolation = { readonly field: string; readonly description: string };

export type JsonRpcError = { readonly code: number; readonly message: string; readonly data: readonly object[] };

/** An error as JSON-RPC has it, `data` holding google.rpc details: ErrorInfo, and BadRequest where fields are wrong. */
export const encodeJsonRpcError = (error: AppError, requestId: string): JsonRpcError => ({
  code: encodingOf(error).rpcCode,
  message: publicMessageOf(error),
  data: detailsOf(error, requestId),
});

/** The same as the body of an HTTP answer (A2A 1.0.1 §11.6). */
export const encodeHttpError = (error: AppError, requestId: string): { readonly error: object } => {
  const { httpStatus, status } = encodingOf(error);
  return { error: { code: httpStatus, status, message: publicMessageOf(error), details: detailsOf(error, requestId) } };
};

const detailsOf = (error: AppError, requestId: string): readonly object[] => {
  const info = {
    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
    reason: REASONS[error.code] ?? error.code.toUpperCase(),
    domain: "a2a-protocol.org",
    metadata: { ...textsOf(error), requestId, timestamp: new Date().toISOString() },
  };
  const violations = violationsOf(error);
  if (violations.length === 0) return [info];
  return [info, { "@type": "type.googleapis.com/google.rpc.BadRequest", fieldViolations: violations }];
};

/** What else the error says; ErrorInfo's metadata holds texts only. A field has a BadRequest of its own. */
const textsOf = ({ details }: AppError): Record<string, string> => {
  const texts = Object.entries(details ?? {}).filter(([name, value]) => name !== "field" && typeof value === "string");
  return Object.fromEntries(texts.map(([name, value]) => [name, String(value)]));
};

const violationsOf = (error: AppError): readonly FieldViolation[] => {
  const { details } = error;
  if (Array.isArray(details?.fieldViolations)) return details.fieldViolations;
  if (typeof details?.field === "string") return [{ field: details.field, description: error.message }];
  return [];
};
