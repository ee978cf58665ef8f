const MAX_RETRY_AFTER_MS = 24 * 60 * 60 * 1_000;

const atMost = (milliseconds: number): number | undefined =>
  Number.isFinite(milliseconds) ? Math.min(Math.max(0, Math.round(milliseconds)), MAX_RETRY_AFTER_MS) : undefined;

/**
 * How long a provider asks to wait, in milliseconds: `retry-after-ms`, else `retry-after` in seconds or as an HTTP date
 * (RFC 9110, 10.2.3). Undefined when it says nothing that can be understood.
 */
export const retryAfterMsOf = (
  headers: Readonly<Record<string, string | undefined>>,
  nowMs: number,
): number | undefined => {
  const milliseconds = headers["retry-after-ms"]?.trim();
  if (milliseconds !== undefined && /^\d+(\.\d+)?$/.test(milliseconds)) return atMost(Number(milliseconds));
  const text = headers["retry-after"]?.trim();
  if (text === undefined || text === "") return undefined;
  return /^\d+(\.\d+)?$/.test(text) ? atMost(Number(text) * 1_000) : atMost(Date.parse(text) - nowMs);
};
