/**
 * Who has to act on an error: the caller (`user`), the operator or time (`operational`), or us (`unexpected`).
 * Each edge has one table from kind to its own codes.
 */
export type ErrorKind = "user" | "operational" | "unexpected";

export type AppErrorFields = {
  /** Stable snake_case name that scripts may rely on; never reused for another meaning. */
  readonly code: string;
  readonly kind: ErrorKind;
  /** For logs and operators. */
  readonly message: string;
  /** What a caller may read, when that differs from `message`. A `user` error shows `message` when this is absent. */
  readonly publicMessage?: string;
  readonly details?: Readonly<Record<string, unknown>>;
  /** Set when the same request may succeed after this many milliseconds. */
  readonly retryAfterMs?: number;
  readonly cause?: unknown;
};

/** The one error of the product: returned inside a `Result` when expected, thrown when not. */
export class AppError extends Error {
  readonly code: string;
  readonly kind: ErrorKind;
  readonly publicMessage: string | undefined;
  readonly details: Readonly<Record<string, unknown>> | undefined;
  readonly retryAfterMs: number | undefined;

  constructor(fields: AppErrorFields) {
    super(fields.message, fields.cause === undefined ? undefined : { cause: fields.cause });
    this.name = "AppError";
    this.code = fields.code;
    this.kind = fields.kind;
    this.publicMessage = fields.publicMessage;
    this.details = fields.details;
    this.retryAfterMs = fields.retryAfterMs;
  }
}

/** An error the caller can mend: `message` must say what was wrong and what to do. */
export const userError = (code: string, message: string, details?: Readonly<Record<string, unknown>>): AppError =>
  new AppError({ code, kind: "user", message, ...(details && { details }) });

/** Turns anything that was thrown into an `AppError`, keeping it as the cause. */
export const toAppError = (thrown: unknown): AppError => {
  if (thrown instanceof AppError) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new AppError({ code: "internal_error", kind: "unexpected", message, cause: thrown });
};

/** The sentence a caller may read: never the inner text of an unexpected error. */
export const publicMessageOf = (error: AppError): string => {
  if (error.publicMessage !== undefined) return error.publicMessage;
  switch (error.kind) {
    case "user":
      return error.message;
    case "operational":
      return "The service is temporarily unable to do this. Try again shortly.";
    case "unexpected":
      return "Something went wrong on our side. Quote the request id when you report it.";
  }
};
