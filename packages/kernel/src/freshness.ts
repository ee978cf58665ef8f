import type { Clock } from "./clock.ts";

export type FreshnessInput = {
  readonly clock: Clock;
  /** How long an answer is good by itself. */
  readonly ttlMs: number;
  /**
   * The moment until which every change was told to whoever remembers, who then forgot what it concerned. What is still
   * remembered was true at that moment, however long ago it was asked for.
   */
  readonly toldUntilMs?: (() => number) | undefined;
};

/** Asked anew even where every change is told, so that whatever changes without telling is not believed for ever. */
const LONGEST_MS = 5 * 60_000;

/** Whether a remembered answer, asked for at that moment, may still be used: it was true at most `ttlMs` ago. */
export const createFreshness =
  ({ clock, ttlMs, toldUntilMs }: FreshnessInput) =>
  (askedMs: number): boolean => {
    const now = clock.now();
    if (now - askedMs < ttlMs) return true;
    return toldUntilMs !== undefined && now - toldUntilMs() < ttlMs && now - askedMs < LONGEST_MS;
  };
