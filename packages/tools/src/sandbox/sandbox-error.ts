import { AppError } from "@shaman/kernel";

/** A sandbox that cannot be had or did not hold out: the operator's matter, but the run may be told what it is. */
export const sandboxError = (code: SandboxErrorCode, message: string, cause?: unknown): AppError =>
  new AppError({ code, kind: "operational", message, publicMessage: message, ...(cause !== undefined && { cause }) });

export type SandboxErrorCode = "sandbox_unavailable" | "sandbox_busy" | "sandbox_failed";
