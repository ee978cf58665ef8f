import type { AppError } from "./app-error.ts";

/** An expected outcome: a value, or an error the caller of the function must deal with. */
export type Result<T, E = AppError> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly error: E };

export const ok = <T>(value: T): { readonly ok: true; readonly value: T } => ({ ok: true, value });

export const err = <E>(error: E): { readonly ok: false; readonly error: E } => ({ ok: false, error });

/** Unwraps where failure would be a fault of ours: throws the error. */
export const unwrap = <T>(result: Result<T>): T => {
  if (result.ok) return result.value;
  throw result.error;
};
