/** Work that lost its reason stops quietly; made once, because an error with a stack costs more than most work it ends. */
class Gone extends Error {
  constructor() {
    super("Nobody waits for this any more");
    this.name = "AbortError";
  }
}

/** Why a signal is aborted when its caller has gone or its time is up. */
export const GONE: Error = new Gone();

/**
 * A signal that is aborted by the given ones, or after `ms`. Call `clear` when the work is done: it takes the timer and
 * the listeners away, where AbortSignal.timeout would keep both until the time is up.
 */
export const abortAfter = (
  ms: number,
  ...signals: readonly AbortSignal[]
): { readonly signal: AbortSignal; readonly timedOut: () => boolean; readonly clear: () => void } => {
  const controller = new AbortController();
  let timedOut = false;
  const timer = Number.isFinite(ms)
    ? setTimeout(
        () => {
          timedOut = true;
          controller.abort(GONE);
        },
        Math.min(Math.max(ms, 0), MAX_TIMER_MS),
      )
    : undefined;
  const follow = new Map<AbortSignal, () => void>();
  for (const source of signals) {
    if (source.aborted) controller.abort(source.reason);
    const onAbort = (): void => controller.abort(source.reason);
    source.addEventListener("abort", onAbort, { once: true });
    follow.set(source, onAbort);
  }
  return {
    signal: controller.signal,
    timedOut: () => timedOut,
    clear: () => {
      clearTimeout(timer);
      for (const [source, onAbort] of follow) source.removeEventListener("abort", onAbort);
    },
  };
};

const MAX_TIMER_MS = 2_147_483_647;
