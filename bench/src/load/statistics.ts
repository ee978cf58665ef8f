import type { Measurement } from "./protocol.ts";

/** The value below which the given share (0 to 1) of the sorted values lies, by nearest rank. */
export const quantile = (sorted: ArrayLike<number>, share: number): number => {
  const rank = Math.max(1, Math.ceil(share * sorted.length));
  return sorted[rank - 1] ?? Number.NaN;
};

/** The median; the mean of the middle two for an even count. */
export const median = (values: readonly number[]): number => {
  const sorted = values.toSorted((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
  const lower = sorted[Math.ceil(sorted.length / 2) - 1] ?? Number.NaN;
  return (lower + upper) / 2;
};

/** Sums up the latencies (milliseconds) of calls that took `elapsedMs` together. */
export const summarize = (latenciesMs: Float64Array, elapsedMs: number): Measurement => {
  const sorted = latenciesMs.toSorted();
  const total = sorted.reduce((sum, each) => sum + each, 0);
  return {
    calls: sorted.length,
    seconds: elapsedMs / 1_000,
    perSecond: (sorted.length * 1_000) / elapsedMs,
    p50Ms: quantile(sorted, 0.5),
    p99Ms: quantile(sorted, 0.99),
    meanMs: total / sorted.length,
    maxMs: quantile(sorted, 1),
  };
};
