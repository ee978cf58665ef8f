/** One signal for two reasons to stop: the caller's signal, and time. */
export type Deadline = {
  readonly signal: AbortSignal;
  /** Stops the clock and lets go of the caller's signal. */
  readonly clear: () => void;
  /** Aborts what is under way and clears. */
  readonly abort: (reason: unknown) => void;
};

/** `onTimeout` makes the reason to abort with when `timeoutMs` have passed. */
export const startDeadline = (input: {
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
  readonly onTimeout: () => unknown;
}): Deadline => {
  const controller = new AbortController();
  const follow = (): void => abort(input.signal.reason);
  const clear = (): void => {
    clearTimeout(timer);
    input.signal.removeEventListener("abort", follow);
  };
  const abort = (reason: unknown): void => {
    clear();
    controller.abort(reason);
  };
  const timer = setTimeout(() => abort(input.onTimeout()), input.timeoutMs);
  if (input.signal.aborted) follow();
  else input.signal.addEventListener("abort", follow, { once: true });
  return { signal: controller.signal, clear, abort };
};
