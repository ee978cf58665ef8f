import { randomBytes } from "node:crypto";

const TRACEPARENT = /^00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})$/;

/** Continues the caller's trace with a span of our own, or begins one (W3C Trace Context, level 1). */
export const continueTrace = (traceparent: string | undefined): string => {
  const match = TRACEPARENT.exec(traceparent ?? "");
  const span = randomBytes(24).toString("hex");
  return `00-${match?.[1] ?? span.slice(16)}-${span.slice(0, 16)}-${match?.[2] ?? "01"}`;
};
