import { isObject } from "@shaman/a2a-wire";
import { err, ok, userError, type AppError, type Result } from "@shaman/kernel";

export type RpcId = string | number;

export type RpcRequest = {
  readonly id: RpcId;
  readonly method: string;
  readonly params: unknown;
};

/** The id to answer with even when the rest is broken; null only where none can be read (D37). */
export const readRpcId = (body: unknown): RpcId | null =>
  isObject(body) && (typeof body.id === "string" || typeof body.id === "number") ? body.id : null;

const invalid = (message: string): { readonly ok: false; readonly error: AppError } =>
  err(userError("invalid_request", message));

/** Parses the text of a request as JSON. Error: `parse_error`. */
export const parseJson = (text: string): Result<unknown> => {
  try {
    return ok(JSON.parse(text));
  } catch {
    return err(userError("parse_error", "Invalid JSON payload: the body is not JSON."));
  }
};

/** Checks the envelope (JSON-RPC 2.0, A2A 1.0.1 §9.3): neither batches nor notifications are taken. */
export const parseEnvelope = (body: unknown): Result<RpcRequest> => {
  if (Array.isArray(body)) return invalid("Batches are not supported: send one request object.");
  if (!isObject(body)) return invalid("Request payload validation error: the body must be a JSON-RPC request object.");
  if (body.jsonrpc !== "2.0") return invalid('Request payload validation error: jsonrpc must be "2.0".');
  const { id, method, params } = body;
  if (typeof id !== "string" && !(typeof id === "number" && Number.isInteger(id))) {
    return invalid("Request payload validation error: id must be a string or a whole number.");
  }
  if (typeof method !== "string" || method === "") {
    return invalid("Request payload validation error: method is missing.");
  }
  return ok({ id, method, params });
};
