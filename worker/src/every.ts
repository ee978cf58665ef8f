import type { Logger } from "@shaman/telemetry";

/** Does `work` again and again, `everyMs` after the last time ended. A failure is logged and the next turn comes. */
export const every = (
  name: string,
  everyMs: number,
  deps: { readonly log: Logger; readonly signal: AbortSignal; readonly work: () => Promise<unknown> },
): void => {
  const turn = async (): Promise<void> => {
    try {
      await deps.work();
    } catch (error) {
      deps.log.error("periodic_work_failed", error, { work: name });
    }
    schedule();
  };
  const schedule = (): void => {
    if (deps.signal.aborted) return;
    const timer = setTimeout(() => void turn(), everyMs);
    deps.signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
  };
  schedule();
};
