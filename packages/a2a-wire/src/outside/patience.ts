import { setTimeout as sleep } from "node:timers/promises";
import { AppError, type Clock } from "@shaman/kernel";
import { isMomentarilyAway } from "./external-error.ts";

const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 2_500;

/** How long one call still waits for an agent at whose address nothing answers. */
export type Patience = {
  /** Whether no connection was made, so that nothing arrived, and there is time for another attempt. */
  readonly mayWait: (thrown: unknown) => boolean;
  /** Whether nothing has been waited for yet. */
  readonly isFresh: () => boolean;
  /** Rejects when the signal is aborted first. */
  readonly wait: () => Promise<void>;
};

/** Pauses that grow, `totalMs` from the first one to the last attempt, none of which ends after the call's deadline. */
export const createPatience = (input: {
  readonly clock: Clock;
  readonly totalMs: number;
  /** Milliseconds since 1970. */
  readonly deadline: number;
  readonly signal: AbortSignal;
}): Patience => {
  const { clock, totalMs, deadline, signal } = input;
  let endMs: number | undefined;
  let nextMs = FIRST_PAUSE_MS;
  const pauseMs = (): number => Math.min(nextMs, (endMs ?? clock.now() + totalMs) - clock.now());
  return {
    mayWait: (thrown) => {
      if (!(thrown instanceof AppError) || !isMomentarilyAway(thrown)) return false;
      return pauseMs() > 0 && clock.now() + pauseMs() < deadline;
    },
    isFresh: () => endMs === undefined,
    wait: async () => {
      endMs ??= clock.now() + totalMs;
      const ms = pauseMs();
      nextMs = Math.min(nextMs * 2, LONGEST_PAUSE_MS);
      await sleep(ms, undefined, { signal });
    },
  };
};
