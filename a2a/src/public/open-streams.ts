import { err, ok, type Result } from "@shaman/kernel";
import { tooManyRequests } from "./rate-limits.ts";

export type OpenStreams = {
  /** Takes one of the caller's places for an open stream; give it back by the function it gives. */
  readonly open: (caller: string, max: number) => Result<() => void>;
  readonly count: () => number;
};

const RETRY_MS = 1_000;

/** Counts the open streams of each caller in this process. */
export const createOpenStreams = (): OpenStreams => {
  const open = new Map<string, number>();
  let total = 0;
  return {
    count: () => total,
    open: (caller, max) => {
      const held = open.get(caller) ?? 0;
      if (held >= max) {
        return err(tooManyRequests(RETRY_MS, `You have ${held} open streams, which is the most allowed.`));
      }
      open.set(caller, held + 1);
      total += 1;
      return ok(() => {
        total -= 1;
        const left = (open.get(caller) ?? 1) - 1;
        if (left === 0) open.delete(caller);
        else open.set(caller, left);
      });
    },
  };
};
