import { createTally, err, ok, type Result } from "@shaman/kernel";
import { tooManyRequests } from "./rate-limits.ts";

export type OpenStreams = {
  /** Takes one of the caller's places for an open stream; give it back by the function it gives. */
  readonly open: (caller: string, max: number) => Result<() => void>;
  readonly count: () => number;
};

const RETRY_MS = 1_000;

/** Counts the open streams of each caller in this process. */
export const createOpenStreams = (): OpenStreams => {
  const open = createTally();
  return {
    count: open.total,
    open: (caller, max) => {
      const held = open.of(caller);
      if (held >= max) {
        return err(tooManyRequests(RETRY_MS, `You have ${held} open streams, which is the most allowed.`));
      }
      open.add(caller);
      return ok(() => open.remove(caller));
    },
  };
};
