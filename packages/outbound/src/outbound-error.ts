import { AppError } from "@shaman/kernel";

export type RefusalReason = "invalid_url" | "scheme" | "credentials_in_url" | "port" | "address" | "redirect" | "path";

/** The guard says no: `message` tells whoever wrote the address what to change, without what it resolved to. */
export const outboundRefused = (reason: RefusalReason, message: string): AppError =>
  new AppError({ code: "outbound_refused", kind: "user", message, details: { reason } });

/** The other side could not be reached or broke off. */
export const outboundFailed = (host: string, cause: unknown): AppError =>
  new AppError({
    code: "outbound_failed",
    kind: "operational",
    message: `${host} could not be reached${codeOf(cause)}.`,
    cause,
  });

export const outboundTimedOut = (host: string, timeoutMs: number): AppError =>
  new AppError({
    code: "outbound_timed_out",
    kind: "operational",
    message: `${host} did not finish its answer within ${timeoutMs} ms.`,
  });

export const outboundTooLarge = (host: string, maxBytes: number): AppError =>
  new AppError({
    code: "outbound_too_large",
    kind: "operational",
    message: `${host} sent more than ${maxBytes} bytes.`,
  });

const MAX_CAUSES = 5;

/** The guard's own error inside what undici wrapped around it. */
export const appErrorIn = (thrown: unknown): AppError | undefined => {
  let current = thrown;
  for (let depth = 0; depth < MAX_CAUSES; depth += 1) {
    if (current instanceof AppError) return current;
    if (!(current instanceof Error)) return undefined;
    current = current.cause;
  }
  return undefined;
};

/** An address to which a redirect led could not be reached, after the request itself had been answered. */
export const failedAfterAnswer = (host: string, thrown: unknown): AppError => {
  const known = appErrorIn(thrown);
  if (known !== undefined && known.code !== "outbound_failed") return known;
  const { code, kind, message } = outboundFailed(host, thrown);
  return new AppError({ code, kind, message, details: { answered: true }, cause: thrown });
};

const codeOf = (thrown: unknown): string => {
  let current = thrown;
  for (let depth = 0; depth < MAX_CAUSES && current instanceof Error; depth += 1) {
    if ("code" in current && typeof current.code === "string") return ` (${current.code})`;
    current = current.cause;
  }
  return "";
};
