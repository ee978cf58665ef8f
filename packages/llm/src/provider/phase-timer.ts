/** What a model call waits for, in milliseconds. */
export type ModelTimeouts = {
  /** Connection and the answer's headers. */
  readonly headersMs: number;
  /** From the headers to the first piece of the answer. */
  readonly firstTokenMs: number;
  /** Between two pieces. */
  readonly idleMs: number;
};

export const DEFAULT_MODEL_TIMEOUTS: ModelTimeouts = { headersMs: 30_000, firstTokenMs: 60_000, idleMs: 60_000 };

export type Phase = "headers" | "firstToken" | "idle";

export type PhaseTimer = {
  readonly enter: (phase: Phase) => void;
  /** The clock runs only while we wait for the provider, not while our consumer is busy. */
  readonly start: () => void;
  readonly stop: () => void;
};

/** Calls `onTimeout` once when the current phase lasts too long. */
export const createPhaseTimer = (
  timeouts: ModelTimeouts,
  onTimeout: (phase: Phase, timeoutMs: number) => void,
): PhaseTimer => {
  let phase: Phase = "headers";
  let timer: NodeJS.Timeout | undefined;

  const stop = (): void => {
    clearTimeout(timer);
    timer = undefined;
  };
  const start = (): void => {
    stop();
    const timeoutMs = timeouts[`${phase}Ms`];
    timer = setTimeout(() => onTimeout(phase, timeoutMs), timeoutMs);
  };
  const enter = (next: Phase): void => {
    phase = next;
    if (timer !== undefined) start();
  };
  return { enter, start, stop };
};
