import { AppError, toAppError } from "@shaman/kernel";
import { pino } from "pino";

export type Fields = Readonly<Record<string, unknown>>;

/** Logs events with fields, never sentences with values in them. A `Secret` in a field prints as `[secret]`. */
export type Logger = {
  readonly debug: (event: string, fields?: Fields) => void;
  readonly info: (event: string, fields?: Fields) => void;
  readonly warn: (event: string, fields?: Fields) => void;
  readonly error: (event: string, error: unknown, fields?: Fields) => void;
  readonly with: (fields: Fields) => Logger;
};

const MAX_CAUSES = 4;

/** Code, message and stack of an error and what caused it; its details, which may hold what a caller sent, stay out. */
const describeError = (thrown: unknown, depth = 0): Fields => {
  const error = toAppError(thrown);
  const source = thrown instanceof Error ? thrown : error;
  const cause = source.cause !== undefined && depth < MAX_CAUSES ? describeError(source.cause, depth + 1) : undefined;
  return {
    code: thrown instanceof AppError ? thrown.code : source.name,
    message: source.message,
    ...(error.kind === "unexpected" && { stack: source.stack }),
    ...(cause !== undefined && { cause }),
  };
};

/** One JSON line an event, on standard output. */
export const createLogger = (input: { readonly process: string; readonly level: string }): Logger => {
  const root = pino({
    level: input.level,
    base: { process: input.process },
    messageKey: "event",
    timestamp: pino.stdTimeFunctions.isoTime,
  });
  const wrap = (logger: pino.Logger): Logger => ({
    debug: (event, fields = {}) => logger.debug(fields, event),
    info: (event, fields = {}) => logger.info(fields, event),
    warn: (event, fields = {}) => logger.warn(fields, event),
    error: (event, error, fields = {}) => logger.error({ ...fields, error: describeError(error) }, event),
    with: (fields) => wrap(logger.child({ ...fields })),
  });
  return wrap(root);
};
